"""The samples in ``etc`` have what the deployment has."""

from __future__ import annotations

import configparser

from tests.deployment import base
from tests.functional import processes
from tests.functional import server

SAMPLE = processes.ROOT / 'etc' / 'glance-api.conf.easystack-sample'
#: What the tests need, and a deployment does not.
OWN = {('DEFAULT', 'debug'),
       # Web servers to import from are on this machine.
       ('easystack_content', 'url_allowed_networks'),
       # Disks of their own are what a deployment has.
       ('copies', 'easystack_block_allow_shared_disk')}


def parse(text: str) -> set[tuple[str, str]]:
    """Return the groups and names of all options, comments included."""
    found = set()
    group = ''
    for line in text.splitlines():
        line = line.lstrip('#')
        name, equals, _ = line.partition(' = ')
        if line.startswith('[') and line.endswith(']'):
            group = line.strip('[]')
        elif equals and ' ' not in name:
            found.add((group, name))
    return found


class TestSamples(base.DeploymentCase):

    def test_options(self) -> None:
        config = configparser.ConfigParser(interpolation=None)
        config.read(self.deployment.glance.config_file)
        used = {('DEFAULT', name) for name in config.defaults()} | {
            (group, name) for group in config.sections()
            for name in config[group] if name not in config.defaults()}
        self.assertIn(('keystone_authtoken', 'auth_url'), used)
        self.assertEqual(set(), used - OWN - parse(SAMPLE.read_text()))

    def test_pipelines(self) -> None:
        paste = self.deployment.glance.config_file.with_name('paste.ini')
        self.assertEqual(server.SAMPLE_PASTE.read_text(), paste.read_text())
