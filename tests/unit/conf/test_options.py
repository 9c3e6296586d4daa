"""The options: deployers have them in files, so none changes unnoticed."""

from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys
import sysconfig

import fixtures
from oslo_config import cfg
from oslo_config import types
import testtools

from easystack_image.conf import api
from easystack_image.conf import content
from easystack_image.conf import opts
from easystack_image.conf import ota
from easystack_image.conf import properties
from easystack_image.conf import store

#: Name, type, default, min, max.
OPTIONS = [
    ('easystack_block_engine', types.String, 'local', None, None),
    ('easystack_block_devices', types.List, [], None, None),
    ('easystack_block_copies', types.Integer, 3, 1, 16),
    ('easystack_block_min_copies', types.Integer, 2, 1, 16),
    ('easystack_block_io_timeout', types.Integer, 30, 1, 3600),
    ('easystack_block_allow_shared_disk', types.Boolean, False, None, None),
    ('easystack_block_direct_io', types.Boolean, True, None, None),
    ('easystack_block_self_repair', types.Boolean, True, None, None),
    ('easystack_block_sweep_interval', types.Integer, 300, 5, 86400),
    ('easystack_block_heal_interval', types.Integer, 60, 1, 86400),
    ('easystack_block_scrub_period', types.Float, 14.0, 0.001, 3650.0),
    ('easystack_block_scrub_rate', types.Float, 50.0, 0.0, 1e6),
    ('easystack_block_absent_grace', types.Integer, 3600, 0, 31536000),
    ('easystack_block_quarantine_ttl', types.Float, 30.0, 0.0, 3650.0),
    ('easystack_block_deleted_ttl', types.Float, 180.0, 0.0, 3650.0),
    ('easystack_block_nearly_full', types.Float, 85.0, 1.0, 100.0),
    ('easystack_block_metrics_file', types.String, '', None, None),
    ('easystack_block_ceph_pool', types.String, 'images', None, None),
    ('easystack_block_ceph_user', types.String, 'glance', None, None),
    ('easystack_block_ceph_conf', types.String, '/etc/ceph/ceph.conf', None,
     None),
    ('easystack_block_ceph_object_size_mib', types.Integer, 8, 1, 32),
    ('easystack_block_ceph_timeout', types.Integer, 30, 1, 3600),
    ('easystack_block_ceph_queue_depth', types.Integer, 8, 1, 64),
]
API_OPTIONS = [
    ('modifiable_states', types.List, ['active', 'queued'], None, None),
    ('links', types.Boolean, False, None, None),
    ('max_body_kib', types.Integer, 4096, 16, 1048576),
]
PROPERTIES_OPTIONS = [
    ('os_distro_words', types.Dict, {}, None, None),
    ('architecture_words', types.Dict, {}, None, None),
    ('hypervisor_type_words', types.Dict, {}, None, None),
    ('allowed_os_distros', types.List, [], None, None),
    ('allowed_architectures', types.List, [], None, None),
    ('allowed_hypervisor_types', types.List, [], None, None),
    ('refuse_unknown', types.Boolean, True, None, None),
    ('disabled_rules', types.List, [], None, None),
]
CONTENT_OPTIONS = [
    ('disk_formats', types.List, ['iso', 'qcow2', 'raw'], None, None),
    ('container_formats', types.List, ['bare'], None, None),
    ('max_virtual_size', types.Integer, 2048, 1, 8388608),
    ('check_min_disk', types.Boolean, True, None, None),
    ('bare_metal_iso_boots', types.Boolean, True, None, None),
    ('locations', types.String, 'inspect', None, None),
    ('copy_image', types.String, 'inspect', None, None),
    ('import_tasks', types.String, 'refuse', None, None),
    ('web_download', types.String, 'gate', None, None),
    ('url_denied_networks', types.List, content.DENIED_NETWORKS, None, None),
    ('url_allowed_networks', types.List, [], None, None),
    ('download_max_size', types.Integer, 1024, 1, 8388608),
    ('download_connect_timeout', types.Integer, 10, 1, 600),
    ('download_read_timeout', types.Integer, 60, 1, 3600),
    ('download_time_limit', types.Integer, 21600, 10, 604800),
    ('download_max_redirects', types.Integer, 5, 0, 20),
    ('downloads_at_once', types.Integer, 4, 1, 64),
    ('drain_size', types.Integer, 64, 0, 1048576),
    ('drain_time', types.Integer, 10, 0, 600),
]
OTA_OPTIONS = [
    ('name_release', types.Boolean, True, None, None),
    ('state_directory', types.String, '/var/lib/easystack-image/ota', None,
     None),
    ('other_nodes', types.List, [], None, None),
    ('other_nodes_timeout', types.Integer, 2, 1, 30),
]
#: All options, by group.
GROUPS = {
    opts.STORE_GROUP: (store.OPTS, OPTIONS),
    api.GROUP: (api.OPTS, API_OPTIONS),
    properties.GROUP: (properties.OPTS, PROPERTIES_OPTIONS),
    content.GROUP: (content.OPTS, CONTENT_OPTIONS),
    ota.GROUP: (ota.OPTS, OTA_OPTIONS),
}
ALL = [opt for listed, _ in GROUPS.values() for opt in listed]


class OptionsTest(testtools.TestCase):

    def test_snapshot(self) -> None:
        for group, (listed, expected) in GROUPS.items():
            self.assertEqual(expected, [
                (opt.name, type(opt.type), opt.default,
                 getattr(opt.type, 'min', None),
                 getattr(opt.type, 'max', None))
                for opt in listed], group)

    def test_none_is_deprecated_or_required_yet(self) -> None:
        for opt in ALL:
            self.assertFalse(opt.required, opt.name)
            self.assertEqual([], opt.deprecated_opts, opt.name)

    def test_units(self) -> None:
        """A number without a unit is half an option."""
        for opt in ALL:
            if isinstance(opt.type, (types.Integer, types.Float)):
                self.assertRegex(
                    opt.help,
                    r'\b(seconds|number|bytes|days|MiB/s|GiB|MiB|KiB|percentage)\b',
                    opt.name)

    def test_help_is_a_sentence(self) -> None:
        for opt in ALL:
            self.assertRegex(opt.help, r'(?s)^[A-Z].*\.$', opt.name)
            self.assertNotIn('  ', opt.help, opt.name)

    def test_names_in_help_exist(self) -> None:
        names = {opt.name for opt in store.OPTS}
        for opt in store.OPTS:
            for word in opt.help.replace(')', ' ').replace(',', ' ').split():
                if word.startswith(store.PREFIX):
                    self.assertIn(word, names)

    def test_defaults_agree_with_each_other(self) -> None:
        values = {opt.dest: opt.default for opt in store.OPTS}
        self.assertLessEqual(values['easystack_block_min_copies'],
                             values['easystack_block_copies'])

    def test_options_of(self) -> None:
        conf = cfg.ConfigOpts()
        conf.register_opts(store.OPTS, group='disks')
        conf([], default_config_files=[], default_config_dirs=[])
        conf.set_override('easystack_block_copies', 5, 'disks')
        self.assertEqual(
            {'engine': 'local', 'devices': [], 'copies': 5, 'min_copies': 2,
             'io_timeout': 30, 'allow_shared_disk': False, 'direct_io': True,
             'self_repair': True, 'sweep_interval': 300,
             'heal_interval': 60, 'scrub_period': 14.0, 'scrub_rate': 50.0,
             'absent_grace': 3600, 'quarantine_ttl': 30.0,
             'deleted_ttl': 180.0, 'nearly_full': 85.0, 'metrics_file': '',
             'ceph_pool': 'images', 'ceph_user': 'glance',
             'ceph_conf': '/etc/ceph/ceph.conf', 'ceph_object_size_mib': 8,
             'ceph_timeout': 30, 'ceph_queue_depth': 8},
            store.options_of(conf.disks))


class GeneratorTest(testtools.TestCase):

    def test_list_opts(self) -> None:
        self.assertEqual(
            [(group, listed) for group, (listed, _) in GROUPS.items()],
            opts.list_opts())
        for group, listed in opts.list_opts():
            for ours, theirs in zip(GROUPS[group][0], listed, strict=True):
                # Generators may change what they are given.
                self.assertIsNot(ours, theirs)

    def generate(self, *arguments: str) -> str:
        """Run the generator as a packager does."""
        output = Path(self.useFixture(
            fixtures.TempDir()).path) / 'easystack-image.conf.sample'
        result = subprocess.run(
            [Path(sysconfig.get_path('scripts')) / 'oslo-config-generator',
             '--namespace', 'easystack_image', '--output-file', output,
             *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual((0, ''), (result.returncode, result.stderr))
        return output.read_text()

    def test_every_option_is_printed_with_its_default(self) -> None:
        sample = self.generate()
        for name, kind, default, low, high in (
                *OPTIONS, *API_OPTIONS, *PROPERTIES_OPTIONS,
                *CONTENT_OPTIONS, *OTA_OPTIONS):
            shown = (','.join(default) if kind in (types.List, types.Dict)
                     else str(default).lower())
            shown = f' {shown}'.rstrip()
            self.assertIn(f'\n#{name} ={shown}\n', sample)
            if low is not None:
                before = sample.partition(f'\n#{name} =')[0]
                self.assertIn(f'# Minimum value: {low}\n'
                              f'# Maximum value: {high}',
                              before.rpartition('\n\n')[2])

    def test_sample_can_be_read_back(self) -> None:
        """With the comment signs taken away, it says what holds anyway."""
        path = Path(self.useFixture(fixtures.TempDir()).path) / 'a.conf'
        path.write_text(re.sub('^#(?=[a-z_]+ =)', '', self.generate(),
                               flags=re.MULTILINE))
        conf = cfg.ConfigOpts()
        for group, (listed, _) in GROUPS.items():
            conf.register_opts(listed, group=group)
        conf(['--config-file', str(path)], default_config_dirs=[])
        for group, (_, expected) in GROUPS.items():
            for name, _, default, *_ in expected:
                self.assertEqual(default, conf[group][name])
                self.assertEqual(
                    cfg.Locations.user,
                    conf.get_location(name, group).location)

    def test_generator_is_that_of_this_python(self) -> None:
        self.assertTrue(sysconfig.get_path('scripts').startswith(
            sys.prefix))
