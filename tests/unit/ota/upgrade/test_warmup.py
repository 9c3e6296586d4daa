"""What workers are asked before they serve."""

from __future__ import annotations

import json

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warmth
from easystack_image.ota.upgrade import canary
from easystack_image.ota.upgrade import warmup
from tests.unit.ota import base
from tests.unit.ota.upgrade import test_keystone


class TestWarmUp(base.Case):

    def setUp(self) -> None:
        super().setUp()
        self.place = layout.Place(self.root / 'instance')
        self.place.path.mkdir()
        self.said: list[str] = []

    def ask(self, **options: object) -> tuple[list[warmth.Request], int]:
        """Have the instance warm up; return what it is asked."""
        self.warmup = warmup.WarmUp(
            settings.Settings(**options),  # type: ignore[arg-type]
            self.said.append)
        self.warmup.ask(self.place)
        return warmth.read(self.place.warm.read_bytes())

    def test_default(self) -> None:
        """Pages, and three times an image that a canary would clean up."""
        requests, rounds = self.ask()
        self.assertEqual(3, rounds)
        self.assertEqual(
            ['GET /', 'GET /v2/images?limit=1', 'POST /v2/images',
             'PUT /v2/images/{image}/file', 'GET /v2/images/{image}',
             'GET /v2/images?limit=25', 'GET /v2/images/{image}/file',
             'DELETE /v2/images/{image}'],
            [f'{each.method} {each.path}' for each in requests])
        self.assertEqual(canary.record(), json.loads(requests[2].body))
        self.assertGreater(requests[3].size, 0)
        self.assertEqual([], self.said)

    def test_no_images(self) -> None:
        requests, rounds = self.ask(warm_images=0, warm_paths='/a /b')
        self.assertEqual((['/a', '/b'], 1),
                         ([each.path for each in requests], rounds))

    def test_each_is_another_set(self) -> None:
        """A worker does again what it is asked again."""
        self.ask()
        first = self.place.warm.read_bytes()
        self.warmup.ask(self.place)
        self.assertNotEqual(first, self.place.warm.read_bytes())

    def test_token(self) -> None:
        credentials = self.root / 'auth'
        credentials.write_text(test_keystone.CREDENTIAL.replace(
            'http://127.0.0.1:1/',
            test_keystone.serve(self, test_keystone.Server)))
        credentials.chmod(0o600)
        requests, _ = self.ask(canary_credentials=str(credentials))
        self.assertEqual({test_keystone.Server.token}, {
            each.headers['X-Auth-Token'] for each in requests})
        self.assertEqual(0o600, self.place.warm.stat().st_mode & 0o777)

    def test_no_keystone(self) -> None:
        """A rollback must not need it."""
        credentials = self.root / 'auth'
        credentials.write_text(test_keystone.CREDENTIAL)
        credentials.chmod(0o600)
        requests, _ = self.ask(canary_credentials=str(credentials))
        self.assertNotIn('X-Auth-Token', requests[0].headers)
        self.assertIn('without a token', self.said[0])
        self.assertNotIn('hush', self.said[0])

    def write(self, worker: int, *statuses: str | None) -> None:
        warmth.write_results(self.place, worker, warmth.Results(1, [
            (f'GET /{place}', status)
            for place, status in enumerate(statuses)]))

    def test_check(self) -> None:
        self.ask()
        self.write(1, '300 Multiple Choices', '401 Unauthorized', None)
        self.warmup.check(self.place)
        self.write(2, '200 OK', 'KeyError: 7')
        error = self.assertRaises(exceptions.UpgradeFailed,
                                  self.warmup.check, self.place)
        self.assertIn('asked for GET /1 before it serves, '
                      'fails in worker 2: KeyError: 7', str(error))

    def test_hurried(self) -> None:
        """Who goes back is told, and not held up."""
        said: list[str] = []
        self.write(1, 'KeyError: 7')
        warmup.WarmUp(settings.Settings(), said.append,
                      hurried=True).check(self.place)
        self.assertIn('KeyError: 7', said[0])
