"""What the holder of the lock says, and does with a database's connection."""

from __future__ import annotations

from typing import Any
from unittest import mock

import testtools

from easystack_image.ota.upgrade import lock_holder


def _lock(module: str) -> Any:
    """Return a lock of a driver, with a connection that is not limited."""
    lock = type('Lock', (), {'__module__': module})()
    lock._conn = mock.MagicMock(_read_timeout=None)
    return lock


class LimitTest(testtools.TestCase):

    def test_database(self) -> None:
        """Neither side waits for hours for one that has no power."""
        lock = _lock('tooz.drivers.mysql')
        lock_holder._limit(lock)
        with lock._conn.cursor() as cursor:
            cursor.execute.assert_called_once_with(
                'SET SESSION wait_timeout = %s', (60,))
        self.assertEqual(10.0, lock._conn._read_timeout)

    def test_others(self) -> None:
        lock = _lock('tooz.drivers.pgsql')
        lock_holder._limit(lock)
        lock._conn.cursor.assert_not_called()
        lock_holder._limit(object())

    def test_who_notices_first(self) -> None:
        self.assertLess(lock_holder._LOOK + lock_holder._ANSWER,
                        lock_holder._SILENCE)


class PasswordTest(testtools.TestCase):

    def said(self, url: str, text: str) -> str:
        return lock_holder._without_password(ValueError(text), url)

    def test_masked(self) -> None:
        self.assertEqual('*** and ***: no', self.said(
            'mysql://a:p%2Fw@b/c', 'p%2Fw and p/w: no'))

    def test_not_quoted(self) -> None:
        for url in ('mysql://u:pa/ss@db/x', 'mysql://u:pa@x/ss@db/x',
                    'mysql://u:pa#ss@db/x', 'mysql://u:[pa@db/x'):
            said = self.said(url, "Port is no number: 'pa'")
            self.assertIn('ValueError', said)
            self.assertNotIn("pa'", said)

    def test_no_password(self) -> None:
        for url in ('file:///a/b', 'mysql://u@db/x', 'mysql://u:@db/x',
                    'mysql://db/x'):
            self.assertEqual('no', self.said(url, 'no'))
        self.assertEqual("ValueError('')", self.said('file:///a', ''))
