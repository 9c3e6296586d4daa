"""Sphinx configuration of the release notes."""

extensions = [
    'openstackdocstheme',
    'reno.sphinxext',
]
project = 'easystack-image'
copyright = 'EasyStack Image developers'
root_doc = 'index'
html_theme = 'openstackdocs'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_repo_name = 'easystack-image'
