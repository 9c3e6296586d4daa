"""How many copies those want who use the devices, and who heeds it."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import fixtures

from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import health
from easystack_image.blockstore.local import problems
from easystack_image.blockstore.local import work
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import operating

Claim = claims.Claim


class ClaimsTest(operating.OperatingTest):
    """A Glance that wants three copies, and whoever wants fewer."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.forget)
        self.engine = self.restart(store_name='three')
        self.engine.announce()
        self.store_some(4)

    def forget(self) -> None:
        """Let no other test find the claims."""
        for device in self.devices:
            os.unlink(f'{device}/{claims.CLAIMS}')

    def other(self, **options: Any) -> engine_module.LocalEngine:
        """Return what wants fewer copies."""
        return self.restart(**{'store_name': 'two', 'copies': 2,
                               'min_copies': 1, **options})

    def counts(self) -> set[int]:
        """Return how many copies images have."""
        return {len(self.holders(image_id)) for image_id in self.images}

    def claims(self) -> set[tuple[str, int]]:
        return {(each.store, each.copies)
                for each in claims.read(self.engine.fleet)}

    def damage(self, data: bytes, devices: Any = None) -> None:
        for device in devices or self.devices:
            with open(f'{device}/{claims.CLAIMS}', 'wb') as file:
                file.write(data)


class FileTest(ClaimsTest):

    def test_of_each_store(self) -> None:
        self.assertEqual({('three', 3)}, self.claims())
        self.other().announce()
        self.assertEqual({('three', 3), ('two', 2)}, self.claims())
        # It was configured anew, and restarted.
        self.other(copies=1).announce()
        self.assertEqual({('three', 3), ('two', 1)}, self.claims())

    def test_only_who_announces_it(self) -> None:
        """Commands, whose configuration may be another one, do not."""
        self.other()
        self.assertEqual({('three', 3)}, self.claims())

    def test_not_written_by_each_worker(self) -> None:
        before = [os.stat(f'{device}/{claims.CLAIMS}').st_ino
                  for device in self.devices]
        self.restart(store_name='three').announce()
        self.assertEqual(before, [
            os.stat(f'{device}/{claims.CLAIMS}').st_ino
            for device in self.devices])

    def test_again(self) -> None:
        """As long as it is used, it does not grow old."""
        self.damage(b'')
        image_id, data = next(iter(self.images.items()))
        self.assertEqual(data, b''.join(self.engine.open(image_id)))
        self.assertEqual(set(), self.claims())
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.claims.AGAIN', 0.0))
        self.assertEqual(data, b''.join(self.engine.open(image_id)))
        self.assertEqual({('three', 3)}, self.claims())

    def test_old(self) -> None:
        now = time.time()
        for at, counts in ((now - claims.LIFE - 5, False),
                           (now - claims.LIFE + 1000, True),
                           (now + 30, True), (now + 1e6, False)):
            self.damage(claims.pack([Claim('host', 'old', 5, at)]))
            self.assertEqual(counts, bool(self.claims()))
            # And it is not kept for ever.
            self.engine.announce()
            self.assertEqual({('three', 3)} | ({('old', 5)} if counts
                                               else set()), self.claims())

    def test_newest(self) -> None:
        now = time.time()
        for number, device in enumerate(self.devices):
            self.damage(claims.pack([Claim('host', 'one', 2 + number,
                                           now - number)]), [device])
        self.assertEqual({('one', 2)}, self.claims())

    def test_damaged(self) -> None:
        for damage in (b'', b'{', b'[]', b'{}', b'\xff', b'{"format": 2}',
                       b'{"format": 1, "claims": 3}',
                       b'{"format": 1, "claims": [{"host": "a"}]}',
                       claims.pack([Claim('a', 'b', 17, time.time())])):
            self.damage(damage, self.devices[:1])
            self.assertEqual({('three', 3)}, self.claims())
            self.damage(damage)
            self.assertEqual(set(), self.claims())
            self.engine.announce()
            self.assertEqual({('three', 3)}, self.claims())

    def test_fsck_knows_it(self) -> None:
        self.assertNotIn(problems.Kind.UNEXPECTED, {
            each.kind for each in self.engine.checker().check(work.Job())})


class HeedTest(ClaimsTest):

    def settle(self, engine: engine_module.LocalEngine) -> None:
        """Have everything done that would remove copies."""
        healer = engine.healer(lambda status: None)
        for _ in range(2):
            self.assertEqual(0, healer.round(threading.Event()).misplaced)
        engine.membership.rebuild(work.Job())

    def test_nothing_is_removed(self) -> None:
        self.settle(self.other())
        self.assertEqual({3}, self.counts())
        self.check_settled()

    def test_once_they_agree(self) -> None:
        self.other(store_name='three').announce()
        self.settle(self.other(store_name='three'))
        self.assertEqual({2}, self.counts())

    def test_drain(self) -> None:
        """As many as anybody wants are made elsewhere, first."""
        other = self.other()
        with self.watch.every_step():
            other.membership.drain(self.devices[0])
            other.membership.empty(self.devices[0], work.Job())
        self.assertEqual({3}, self.counts())
        self.assertFalse(any(self.devices[0] in self.holders(image_id)
                             for image_id in self.images))

    def test_told(self) -> None:
        def told(engine: engine_module.LocalEngine) -> list[str]:
            return [each.message for each in health.assess(engine)
                    if each.what == 'copies-differ']

        self.assertEqual([], told(self.engine))
        message, = told(self.other())
        for words in ('is 2 here (store "two")', '3 in store "three"'):
            self.assertIn(words, message)
        self.other().announce()
        message, = told(self.engine)
        self.assertIn('2 in store "two"', message)
        self.damage(claims.pack([]))
        self.assertEqual([], told(self.other()))


class MissingTest(base.EngineTest):

    def test_none(self) -> None:
        self.assertEqual([], claims.read(self.engine.fleet))
        self.assertEqual([], [
            each for each in health.assess(self.engine)
            if each.what == 'copies-differ'])
