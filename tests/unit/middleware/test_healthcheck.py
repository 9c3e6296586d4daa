"""The backend of the health check, in oslo.middleware's own application."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import fixtures
from oslo_config import cfg
from oslo_middleware import healthcheck as oslo_healthcheck
import webob

from easystack_image.middleware import healthcheck
from tests.unit.store import base as store_base


class HealthcheckTest(store_base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.devices = store_base.shared_devices()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.healthcheck.CACHED_FOR', 0.0))

    def groups(self, **options: object) -> dict[str, dict[str, object]]:
        return {'DEFAULT': {'enabled_backends': 'copies:easystack_block,'
                                                'plain:file'},
                'copies': store_base.block_options(
                    **{'devices': self.devices.paths, 'nearly_full': 100.0,
                       **options})}

    def app(self, detailed: bool = False, **options: object) -> Any:
        """Return the application, for a configuration that was read."""
        conf = self.configuration(self.groups(**options))
        conf.register_opts(oslo_healthcheck.opts.HEALTHCHECK_OPTS,
                           group='healthcheck')
        conf.set_override('backends', ['easystack_block'], 'healthcheck')
        conf.set_override('detailed', detailed, 'healthcheck')
        return oslo_healthcheck.Healthcheck(None, conf)

    def ask(self, app: Any) -> tuple[int, dict[str, Any]]:
        """Return the code, and the only reason with its details."""
        answer = webob.Request.blank(
            '/', accept='application/json').get_response(app)
        reason, = json.loads(answer.body)['reasons']
        return answer.status_int, reason

    def test_good(self) -> None:
        self.assertEqual((200, 'OK'), self.ask(self.app()))

    def test_details(self) -> None:
        code, reason = self.ask(self.app(detailed=True))
        self.assertEqual((200, 'OK'), (code, reason['reason']))
        self.assertTrue(reason['details'].startswith(
            'copies: warning: healer-never-ran: '), reason)

    def test_warnings_are_no_reason(self) -> None:
        app = self.app()
        with self.devices.away(0):
            self.assertEqual((200, 'OK'), self.ask(app))

    def test_outage(self) -> None:
        app, detailed = self.app(), self.app(detailed=True)
        with self.devices.away(0, 1):
            self.assertEqual((503, 'IMAGE STORE UNAVAILABLE'),
                             self.ask(app))
            code, reason = self.ask(detailed)
        self.assertEqual(503, code)
        self.assertIn('copies: critical: too-few-devices',
                      reason['details'])
        self.assertIn(str(self.devices.paths[1]), reason['details'])
        self.assertEqual((200, 'OK'), self.ask(app))

    def test_outage_is_logged_once(self) -> None:
        app = self.app()
        with self.devices.away(0, 1):
            for _ in range(3):
                self.ask(app)
        self.assertEqual(1, self.log.output.count('Health check: '))

    def test_configuration_that_cannot_work(self) -> None:
        for options in ({'copies': 4}, {'copies': 'many'},
                        {'engine': 'floppy'}, {'devices': ['relative']}):
            code, reason = self.ask(self.app(detailed=True, **options))
            self.assertEqual(503, code, options)
            self.assertIn('store-misconfigured', reason['details'])

    def test_no_store_of_ours(self) -> None:
        conf = self.configuration({'DEFAULT': {
            'enabled_backends': 'plain:file'}})
        backend = healthcheck.BlockHealthcheck(conf, {})
        result = backend.healthcheck(80)
        self.assertEqual((True, 'OK', ''), (
            result.available, result.reason, result.details))

    def test_configuration_of_its_own(self) -> None:
        """With ``oslo_config_project`` in the paste file."""
        path = store_base.write_config(
            self.devices.root / 'own.conf', self.groups())
        self.addCleanup(path.unlink)
        app = oslo_healthcheck.Healthcheck.app_factory(
            {}, backends='easystack_block', oslo_config_project='glance',
            oslo_config_program='glance-api', oslo_config_file=str(path))
        self.assertIsNot(cfg.CONF, app.oslo_conf)
        self.assertEqual((200, 'OK'), self.ask(app))
        with self.devices.away(0, 1):
            self.assertEqual(503, self.ask(app)[0])

    def test_result_counts_for_a_while(self) -> None:
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.healthcheck.CACHED_FOR', 60.0))
        app = self.app()
        self.assertEqual(200, self.ask(app)[0])
        with self.devices.away(0, 1):
            # Another application has not asked yet.
            self.assertEqual(503, self.ask(self.app())[0])
            self.assertEqual(200, self.ask(app)[0])

    def test_disk_that_hangs(self) -> None:
        """The answer comes in time; who asks meanwhile need not wait."""
        app = self.app()
        self.assertEqual(200, self.ask(app)[0])
        codes: list[int] = []
        with self.devices.hanging(0, 1):
            first = threading.Thread(
                target=lambda: codes.append(self.ask(app)[0]))
            first.start()
            time.sleep(0.2)
            began = time.monotonic()
            self.assertEqual(200, self.ask(app)[0])
            self.assertLess(time.monotonic() - began, 0.7)
            first.join(30)
        self.assertEqual([503], codes)
