"""File systems that lack what the engine needs of them."""

from __future__ import annotations

import errno

import fixtures

from tests.faults import base

DATA = base.content(4321, seed=9)


class TestWithoutLocks(base.TestCase):

    def start(self) -> str:
        """Start one more process; return what it logs."""
        log = self.useFixture(fixtures.FakeLogger())
        self.client()
        return str(log.output)

    def test_it_is_told(self) -> None:
        odd = self.fuse()
        client = self.client_on(odd, *self.loops(2))
        self.assertNotIn('lock', self.start())
        # As NFS does with what was opened for reading.
        odd.fail('flock', '/easystack-block.json$', errno.EBADF)
        log = self.start()
        self.assertIn(f'Device {odd.path}: its file system cannot lock', log)
        self.assertNotIn(self.devices[1].path, log)
        # It is used all the same.
        image_id, _ = self.upload(client, DATA)
        self.check_copies(client.engine, image_id, good=3)

    def test_it_hangs(self) -> None:
        odd = self.fuse()
        self.client_on(odd, *self.loops(2))
        odd.hang('flock', '/easystack-block.json$')
        with self.within(base.LIMIT):
            self.assertIn(odd.path, self.start())
        odd.release()
