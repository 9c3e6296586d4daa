"""Sphinx configuration of the documentation."""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1] / 'ext'))
extensions = [
    'command_line',
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

_AUTHORS = ['EasyStack Image developers']
man_pages = [
    ('man/easystack-image-manage', 'easystack-image-manage',
     'devices and copies of an easystack_block store', _AUTHORS, 1),
    ('man/easystack-image-ota', 'easystack-image-ota',
     'releases of the image service, over the air', _AUTHORS, 1),
    ('man/easystack-image-status', 'easystack-image-status',
     'whether the image service is well', _AUTHORS, 1),
]
