"""Sphinx configuration of the documentation."""

extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxext',
    'sphinx.ext.autodoc',
]
project = 'easystack-image'
copyright = 'EasyStack Image developers'
root_doc = 'index'
html_theme = 'openstackdocs'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_repo_name = 'easystack-image'
