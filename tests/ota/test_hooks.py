"""Our hooks, with both releases of Glance and a real database.

Glance 32 and 33 have the same tables.  So the database begins as Glance
2023.1 had it, and gets all three phases from the ``glance-manage`` of 33.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from typing import Any, ClassVar
import uuid

import pymysql
from sqlalchemy.engine import url as urls
import testtools

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import calls
from easystack_image.ota.hooks import leashed
from easystack_image.ota.hooks import listing
from easystack_image.ota.hooks import testing
from easystack_image.ota.hooks.own import database
from tests.functional import configuration
from tests.functional import mariadb
from tests.functional import processes
from tests.functional import server
from tests.ota import hook_slots
from tests.ota import releases
from tests.unit.ota import others

ALL = ('expand', 'migrate', 'contract')
#: As old a database as the new release can expand.
BEFORE = '2023_1_contract01'


class SiteCase(testtools.TestCase):
    """A test with slots of both releases."""

    site: ClassVar[hook_slots.Site]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.site = hook_slots.site()

    def setUp(self) -> None:
        super().setUp()
        self.root = others.directory('hooks-')
        self.addCleanup(shutil.rmtree, self.root)
        self.config = self.root / 'glance-api.conf'
        self.outcomes: list[base.Outcome] = []
        self.settings = settings.Settings(
            state_directory=str(self.root / 'state'),
            hooks_directory=str(self.root / 'hooks.d'),
            config_file=str(self.config))

    def context(self, point: str, phases: tuple[str, ...] = ALL,
                **others: Any) -> base.Context:
        config_files, config_dirs = calls.glance_files(self.settings)
        return testing.context(point, **{
            'slot': str(self.site.paths[hook_slots.NEW]),
            'origin_slot': str(self.site.paths[hook_slots.OLD]),
            'config_files': config_files, 'config_dirs': config_dirs,
            'phases': phases, **others})

    def run_hooks(self, point: str, phases: tuple[str, ...] = ALL,
                  **others: Any) -> dict[str, str]:
        """Run the hooks of a point; return what they say."""
        self.outcomes.clear()
        calls.HookCaller(self.settings, self.outcomes.append).run(
            base.Point(point), self.context(point, phases, **others))
        return {each.hook: each.message for each in self.outcomes}

    def refuse(self, point: str, *words: str, **others: Any) -> None:
        error = self.assertRaises(exceptions.HookFailed, self.run_hooks,
                                  point, **others)
        for word in words:
            self.assertIn(word, str(error))


class DatabaseTest(SiteCase):

    def make_database(self) -> str:
        """Make a database of an earlier release; return its URL."""
        url = mariadb.shared().create_database(f'g{uuid.uuid4().hex[:12]}')
        configuration.write(self.config, {'database': {'connection': url}})
        self.manage(hook_slots.OLD, 'upgrade', '--version', BEFORE)
        return url

    def manage(self, version: str, *arguments: str,
               accept: tuple[int, ...] = (0,)) -> str:
        """Call ``glance-manage db`` of a slot."""
        return processes.check(
            [self.site.program(version, 'glance-manage'), '--config-file',
             str(self.config), 'db', *arguments], 300, accept)

    def check(self, point: str, phases: tuple[str, ...]) -> str | None:
        """Run the lie detector alone, as a slot would."""
        return database.DatabaseCheck().run(self.context(point, phases))

    def test_database(self) -> None:
        url = self.make_database()
        self.assertLie('at-check', (), 'declares', 'none', 'expand next')
        self.assertEqual('the database needs expand next',
                         self.check('at-check', ('expand', 'contract')))
        self.run_hooks('at-expand')
        # Done already, which is no matter.
        self.run_hooks('at-expand')
        self.assertLie('after-expand', ('expand',), 'it needs contract next')
        self.assertEqual({'database-check': 'the database needs contract '
                                            'next'},
                         self.run_hooks('after-expand'))
        # The release before goes on with it.
        self.assertIn('not up to date', self.manage(
            hook_slots.OLD, 'check', accept=(5,)))
        self.assertIn('migrat', self.run_hooks('at-migrate')[
            'database-migrate'].lower())
        self.run_hooks('at-contract')
        self.assertEqual({'database-check': 'the database needs nothing'},
                         self.run_hooks('after-contract', ()))
        self.assertIn('phases are declared',
                      self.check('at-check', ALL) or '')
        self.assertNoSecret(url)

    def assertLie(self, point: str, phases: tuple[str, ...],
                  *words: str) -> None:
        error = self.assertRaises(exceptions.HookFailed, self.check, point,
                                  phases)
        for word in words:
            self.assertIn(word, str(error))

    def assertNoSecret(self, url: str) -> None:
        password = urls.make_url(url).password
        self.assertTrue(password)
        self.assertNotIn(password, repr(self.outcomes))

    def test_undeclared_phases_are_not_run(self) -> None:
        self.config.write_text('[database]\nconnection = none://\n')
        for phase in ALL:
            self.assertEqual({f'database-{phase}': ''},
                             self.run_hooks(f'at-{phase}', ()))

    def test_no_database(self) -> None:
        """Wrong password: refused; nobody there: asked again."""
        url = self.make_database()
        wrong = url.replace('@127', 'x@127')
        configuration.write(self.config, {'database': {'connection': wrong}})
        self.refuse('at-expand', 'database-expand', 'Access denied')
        self.assertNoSecret(wrong)
        away = urls.make_url(url).set(port=processes.free_port())
        configuration.write(self.config, {
            'database': {'connection': away.render_as_string(False),
                         'max_retries': 1, 'retry_interval': 1}})
        later = self.assertRaises(exceptions.RetryLater, self.run_hooks,
                                  'at-expand')
        self.assertIn('does not reach the database', str(later))
        self.assertNoSecret(url)

    def tables(self, url: str) -> list[str]:
        """Return the tables, and the versions that alembic has."""
        parts = urls.make_url(url)
        with pymysql.connect(
                host=parts.host, port=parts.port or 0, user=parts.username,
                password=str(parts.password or ''),
                database=parts.database) as connection, (
                connection.cursor()) as cursor:
            cursor.execute('SHOW TABLES')
            names = [str(row[0]) for row in cursor.fetchall()]
            cursor.execute('SELECT version_num FROM alembic_version')
            return sorted(names + [str(row[0]) for row in cursor.fetchall()])

    def test_killed_with_the_updater(self) -> None:
        """What changes tables is not cut short, nor done twice at once."""
        url = self.make_database()
        pid = os.fork()
        if not pid:
            try:
                self.run_hooks('at-expand')
            finally:
                os._exit(1)
        # Seconds in which it has begun, and cannot have ended.
        time.sleep(1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.run_hooks('at-expand')
        self.run_hooks('after-expand')
        self.assertIn('cached_images', self.tables(url))
        self.assertIn('2024_1_expand01', self.tables(url))


class ReleaseTest(SiteCase):
    """Configuration, pipeline, policy and upgrade check, of both releases."""

    def setUp(self) -> None:
        super().setUp()
        self.glance = server.Glance(
            self.root, [server.block_store(
                'copies', server.make_devices(self.root))],
            pipelines=releases.paste())
        self.glance.prepare()
        self.glance.init_devices()
        self.settings = dataclasses.replace(
            self.settings, config_file=str(self.glance.config_file))

    def one(self, name: str, version: str = hook_slots.NEW,
            ) -> tuple[str, str]:
        """Run one hook in a slot; return its state and message."""
        slot = str(self.site.paths[version])
        ended = leashed.run(
            [listing.python(slot), *listing.RUNNER, 'run', name], 300,
            stdin=json.dumps(self.context(
                'at-check', slot=slot).record()))
        answer = json.loads(ended.stdout)
        return answer['state'], answer['message']

    def set_option(self, group: str, name: str, value: object) -> None:
        self.glance.options = {group: {name: value}}
        self.glance.configure()

    def test_all_is_well(self) -> None:
        said = self.run_hooks('at-check', ())
        self.assertEqual(
            {'configuration', 'policy', 'database-check', 'replica-format',
             'copies', 'upgrade-check'}, set(said))
        self.assertEqual('', said['configuration'])
        self.assertEqual('', said['policy'])
        # The older release, to which one may go back.
        for name in ('configuration', 'policy'):
            self.assertEqual(('done', ''), self.one(name, hook_slots.OLD))

    def test_options(self) -> None:
        self.set_option('DEFAULT', 'show_multiple_location', True)
        state, said = self.one('configuration')
        self.assertEqual('done', state)
        self.assertIn('[DEFAULT] show_multiple_location', said)
        self.assertIn('unknown', said)
        self.assertIn('did you mean show_multiple_locations?', said)
        self.set_option('wsgi', 'task_pool_threads', 'many')
        state, said = self.one('configuration')
        self.assertEqual('failed', state)
        self.assertIn('task_pool_threads', said)

    def test_pipeline(self) -> None:
        paste = self.root / 'etc' / 'paste.ini'
        paste.write_text(paste.read_text().replace(
            '#easystack_copies', '#easystack_gone'))
        state, said = self.one('configuration')
        self.assertEqual('failed', state)
        self.assertIn('filter "easystack_copies"', said)

    def test_policy(self) -> None:
        policy = self.root / 'etc' / 'policy.yaml'
        for text, *words in (
                ('get_imags: "role:a"', 'get_imags', 'get_images'),
                ('a: "rule:b"\nb: "rule:a"', 'circle', 'a -> b -> a'),
                ('get_images: "rule:gone"', 'gone', 'does not exist'),
                ('get_images: "role"', 'malformed'),
                ('get_images: 5', 'malformed'), ('[', 'cannot be read')):
            policy.write_text(text + '\n')
            state, said = self.one('policy')
            self.assertEqual('failed', state)
            for word in words:
                self.assertIn(word, said)

    def test_devices(self) -> None:
        for number in range(2):
            shutil.rmtree(server.devices(self.glance.stores[0])[number])
        state, said = self.one('upgrade-check')
        self.assertEqual('failed', state)
        self.assertIn('Store copies', said)

    def test_owner(self) -> None:
        """Devices, database and configuration are not those of root."""
        logs = self.root / 'log'
        logs.mkdir()
        self.set_option('DEFAULT', 'log_dir', logs)
        others.give(self.root)
        for path in (self.root / 'etc').iterdir():
            # A password is in it.
            path.chmod(0o640)
        self.assertEqual({'copies': ''}, {
            name: said for name, said in self.run_hooks(
                'at-preflight', ()).items() if name == 'copies'})
        self.assertEqual(
            {'configuration', 'policy', 'database-check', 'replica-format',
             'copies', 'upgrade-check'}, set(self.run_hooks('at-check', ())))
        self.assertTrue(list(logs.iterdir()))
        self.assertEqual(
            {others.USER}, {path.lstat().st_uid for path in (
                self.root, *self.root.rglob('*'))
                if not path.is_relative_to(self.root / 'state')})
