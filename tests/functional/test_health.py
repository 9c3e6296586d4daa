"""What load balancers and operators are told of the stores."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
import platform
import shutil
import sqlite3
import subprocess

import requests

from easystack_image.middleware import healthcheck
from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server

OK = 'OK'
UNAVAILABLE = 'IMAGE STORE UNAVAILABLE'


class HealthCase(base.TestCase):
    """A Glance with three devices."""

    def setUp(self) -> None:
        super().setUp()
        self.root = self.temporary_directory()
        self.devices = server.make_devices(self.root)
        #: However full the disk of this machine is.
        self.store = server.block_store('copies', self.devices,
                                        nearly_full=100)

    def prepare(self) -> server.Glance:
        """Return a Glance that is not started yet."""
        glance = server.Glance(self.temporary_directory(), [self.store])
        self.show_log_of(glance)
        glance.prepare()
        glance.init_devices()
        return glance

    def start(self, detailed: bool = False) -> server.Glance:
        """Start Glance, with the sample's health check."""
        glance = self.prepare()
        paste = glance.root / 'etc' / 'paste.ini'
        if detailed:
            backends = ('\nbackends = disable_by_file,easystack_block,'
                        'easystack_ota\n')
            text = paste.read_text()
            self.assertIn(backends, text)
            paste.write_text(text.replace(
                backends, f'{backends}detailed = true\n'))
        self.addCleanup(glance.stop)
        glance.start()
        self.images = client.Images(glance.url)
        return glance

    @contextlib.contextmanager
    def away(self, *devices: Path) -> Iterator[None]:
        """Take devices away for a while."""
        for device in devices:
            device.rename(device.with_suffix('.away'))
        try:
            yield
        finally:
            for device in devices:
                device.with_suffix('.away').rename(device)


class TestHealthcheck(HealthCase):

    def ask(self, glance: server.Glance, accept: str = 'application/json',
            method: str = 'GET') -> requests.Response:
        return requests.request(method, f'{glance.url}/healthcheck',
                                headers={'Accept': accept}, timeout=60)

    def await_code(self, glance: server.Glance, code: int,
                   **how: str) -> requests.Response:
        """Ask until the answer is this one.

        Results count for a while, in each worker for itself.
        """
        def asked() -> list[requests.Response]:
            answer = self.ask(glance, **how)
            # A Response with an error would be false.
            return [answer] if answer.status_code == code else []

        answer, = processes.poll(asked, f'{code}',
                                 healthcheck.CACHED_FOR + 10)
        return answer

    def test_devices_come_and_go(self) -> None:
        glance = self.start()
        answer = self.ask(glance)
        self.assertEqual(200, answer.status_code, answer.text)
        self.assertEqual({'detailed': False, 'reasons': [OK, OK, OK]},
                         answer.json())
        # Two devices are enough for uploads, and one for downloads.
        with self.away(self.devices[0]):
            with self.assertRaises(TimeoutError):
                self.await_code(glance, 503)
            data = client.content(1000)
            self.check_image(self.images.upload(data), data)
            with self.away(self.devices[1]):
                answer = self.await_code(glance, 503)
                self.assertEqual([OK, UNAVAILABLE, OK],
                                 answer.json()['reasons'])
                for accept in ('text/plain', 'text/html', '*/*'):
                    answer = self.await_code(glance, 503, accept=accept)
                    self.assertIn(UNAVAILABLE, answer.text)
                    self.assertNotIn(str(self.root), answer.text)
                    self.assertNotIn('too-few', answer.text)
                self.await_code(glance, 503, method='HEAD')
        self.await_code(glance, 200)
        self.assertIn('Health check: uploads or downloads fail.',
                      glance.log())
        self.await_code(glance, 204, method='HEAD')

    def test_details(self) -> None:
        glance = self.start(detailed=True)
        with self.away(self.devices[2]):
            answer = self.ask(glance)
        self.assertEqual(200, answer.status_code)
        _, ours, _ = answer.json()['reasons']
        self.assertEqual(OK, ours['reason'])
        lines = ours['details'].splitlines()
        self.assertEqual(3, len(lines), lines)
        for line in lines:
            self.assertTrue(line.startswith('copies: warning: '), line)
        self.assertIn(str(self.devices[2]), ours['details'])

    def test_store_that_is_not_configured(self) -> None:
        """Devices that come back later do not help: say so until restart."""
        glance = self.start(detailed=True)
        glance.stop()
        with self.away(*self.devices):
            glance.start()
            answer = self.ask(glance)
            self.assertEqual(503, answer.status_code)
            self.assertIn('no-devices', answer.text)
        answer = self.await_code(glance, 503)
        self.assertIn('restart Glance', answer.text)
        glance.stop()
        glance.start()
        self.assertEqual(200, self.ask(glance).status_code)


class TestUpgradeCheck(HealthCase):

    def prepare(self) -> server.Glance:
        """Return a Glance with all of the reference configuration."""
        glance = super().prepare()
        etc = glance.config_file.parent
        (etc / 'policy.yaml').touch()
        (etc / 'policy.d').mkdir()
        for path in (processes.ROOT / 'etc' / 'policy.d').iterdir():
            shutil.copy(path, etc / 'policy.d')
        shutil.copy(processes.ROOT / 'etc' /
                    'schema-image.json.easystack-sample',
                    etc / 'schema-image.json')
        return glance

    def check(self, glance: server.Glance, *options: str,
              ) -> tuple[int, dict[str, tuple[int, str]]]:
        """Return the exit code, and what was found by each check."""
        result = self.run_status('--config-file', str(glance.config_file),
                                 'upgrade', 'check', '--json', *options)
        self.assertEqual('', result.stderr)
        return result.returncode, {
            each['check']: (each['result'], each['details'])
            for each in json.loads(result.stdout)['checks']}

    def run_status(self, *arguments: str,
                   ) -> subprocess.CompletedProcess[str]:
        return processes.run([processes.script('easystack-image-status'),
                              *arguments])

    def manage(self, glance: server.Glance, *arguments: str) -> None:
        processes.check(glance.manage_command(*arguments))

    def test_exit_codes(self) -> None:
        glance = self.prepare()
        code, checks = self.check(glance)
        self.assertEqual((1, 'healer-never-ran'), (
            code, checks['Store copies: healer'][1].split(
                ': ')[0].removeprefix('(1) ')))
        self.assertEqual({'Store copies: healer'}, {
            name for name, (result, _) in checks.items() if result})
        self.manage(glance, 'heal', '--once')
        code, checks = self.check(glance)
        self.assertEqual(0, code, checks)
        self.assertEqual(
            ['Python', 'Glance', 'Entry points', 'Requirements', 'Options',
             'Pipeline', 'Protection', 'Policies', 'Schema', 'Database',
             'uWSGI', 'Stores', 'Store copies: configuration',
             'Store copies: devices',
             'Store copies: images', 'Store copies: healer'], list(checks))
        with self.away(self.devices[0]):
            code, checks = self.check(glance)
            self.assertEqual(1, code)
            result, details = checks['Store copies: devices']
            self.assertEqual(1, result)
            self.assertIn(str(self.devices[0]), details)
            self.assertIn('(2) too-few-devices', details)
        with self.away(*self.devices[:2]):
            code, checks = self.check(glance)
            self.assertEqual((2, 2), (
                code, checks['Store copies: devices'][0]))
            self.assertIn('uploads are refused',
                          checks['Store copies: devices'][1])

    def test_images(self) -> None:
        glance = self.start()
        self.images.upload(client.content(5000))
        with self.away(self.devices[1]):
            processes.check(glance.manage_command('heal', '--once'),
                            accept=(3,))
            _, checks = self.check(glance)
        self.assertEqual(1, checks['Store copies: images'][0])
        self.assertIn('images-below-copies: 1 image has fewer than 3',
                      checks['Store copies: images'][1])

    def test_configuration(self) -> None:
        glance = self.prepare()
        glance.stores.append(server.block_store(
            'broken', self.devices[:1]))
        glance.stores.append(server.block_store(
            'worse', self.devices, copies='many'))
        glance.configure()
        code, checks = self.check(glance)
        self.assertEqual(2, code)
        self.assertEqual(0, checks['Store copies: configuration'][0])
        result, details = checks['Store broken: configuration']
        self.assertEqual(2, result)
        self.assertIn('only 1 are listed', details)
        result, details = checks['Store worse: configuration']
        self.assertEqual(2, result)
        self.assertIn('many', details)

    def test_deployment(self) -> None:
        """All that is wrong is told in one go, with what to do."""
        glance = self.prepare()
        etc = glance.config_file.parent
        glance.options |= {
            'DEFAULT': {'property_protection_file': 'protections.conf',
                        'enabled_import_method': '[web-download]',
                        'image_size_cap': 'much'}}
        glance.import_options = {
            'image_import_opts': {'image_import_plugins': '[no_op]'}}
        glance.configure()
        (etc / 'policy.yaml').unlink()
        policy = etc / 'policy.d' / 'easystack-image-uploads.yaml'
        policy.write_text(policy.read_text().replace('"upload_image"',
                                                     '"upload_images"'))
        paste = etc / 'paste.ini'
        paste.write_text(
            paste.read_text()
            .replace('egg:easystack-image#easystack_images',
                     'egg:easystack-image#easystack_picture')
            .replace(',easystack_block', '')
            .replace('easystack_api versionnegotiation osprofiler authtoken '
                     'context', 'versionnegotiation osprofiler authtoken '
                     'context easystack_api'))
        schema = etc / 'schema-image.json'
        schema.write_text(schema.read_text().replace('"kylin",', ''))
        with contextlib.closing(sqlite3.connect(
                glance.root / 'glance.sqlite')) as database:
            database.execute("UPDATE alembic_version SET version_num = "
                             "'train_contract01'")
            database.commit()
        code, checks = self.check(glance)
        self.assertEqual(2, code)
        for name, result, *words in (
                ('Options', 2, 'enabled_import_method in',
                 'did you mean enabled_import_methods', 'image_size_cap'),
                ('Pipeline', 2, 'apiv2app', 'easystack_picture'),
                ('Protection', 2, 'easystack_content to [image_import_opts]',
                 'property_protection_file is set',
                 'copy policy.d/easystack-image-uploads.yaml',
                 'policy.yaml does not exist', 'easystack_block to',
                 'easystack_api must stand before'),
                ('Policies', 2, 'call it upload_image'),
                ('Schema', 1, 'os_distro lacks kylin'),
                ('Database', 2, 'glance-manage db expand')):
            self.assertEqual(result, checks[name][0], checks[name])
            for word in words:
                self.assertIn(word, checks[name][1])

    def test_no_store(self) -> None:
        root = self.temporary_directory()
        glance = server.Glance(root, [
            server.file_store('plain', root / 'plain')])
        glance.prepare()
        code, checks = self.check(glance)
        self.assertEqual((1, 1), (code, checks['Stores'][0]))

    def test_table(self) -> None:
        glance = self.prepare()
        result = self.run_status('--config-file', str(glance.config_file),
                                 'upgrade', 'check')
        self.assertEqual((1, ''), (result.returncode, result.stderr))
        for line in result.stdout.splitlines():
            self.assertLessEqual(len(line), 80, line)
        self.assertIn('Check: Store copies: devices', result.stdout)

    def test_example_in_the_documentation(self) -> None:
        glance = self.prepare()
        page = (processes.ROOT / 'doc' / 'source' / 'health.rst').read_text()
        example = page.partition('   $ easystack-image-status')[2].partition(
            '\n\n')[0]
        result = self.run_status('--config-file', str(glance.config_file),
                                 'upgrade', 'check')

        def words(text: str) -> list[str]:
            # The width of the table, and releases, are as they are.
            text = text.replace(platform.python_version()[:4], 'PYTHON')
            text = text.replace('3.11', 'PYTHON')
            return text.replace('+', ' ').replace('-', ' ').replace(
                '|', ' ').split()

        self.assertEqual(words(example.partition('\n')[2]),
                         words(result.stdout))

    def test_where_glance_looks(self) -> None:
        glance = self.prepare()
        result = processes.run(
            [processes.script('easystack-image-status'), 'upgrade', 'check'],
            OS_GLANCE_CONFIG_DIR=str(glance.config_file.parent))
        self.assertIn('Check: Store copies: devices', result.stdout)

    def test_wrong_use(self) -> None:
        """Not to be taken for a check that failed."""
        for arguments in ((), ('upgrade',), ('check',),
                          ('--config-file', '/nowhere', 'upgrade', 'check')):
            result = self.run_status(*arguments)
            self.assertEqual(255, result.returncode, arguments)
            self.assertNotIn('Traceback', result.stderr + result.stdout)
            self.assertNotEqual('', result.stderr)


class TestHealer(HealthCase):
    """The metrics that the healer of a real store leaves."""

    def test_metrics(self) -> None:
        path = self.root / 'copies.prom'
        self.store = server.block_store('copies', self.devices,
                                        nearly_full=100, metrics_file=path)
        glance = self.start()
        self.images.upload(client.content(5000))
        processes.check(glance.manage_command('heal', '--once'))
        text = path.read_text()
        self.assertIn('easystack_block_images{store="copies"} 1.0\n', text)
        self.assertIn('easystack_block_copies_bytes{store="copies"} '
                      '15000.0\n', text)
