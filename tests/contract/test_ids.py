"""What is no image id is refused, before anything is done with it."""

from __future__ import annotations

import os
from typing import Any
import uuid

import testscenarios

from easystack_image import exceptions
from tests.contract import base
from tests.contract import sources

load_tests = base.load_tests

_ID = '123e4567-e89b-12d3-a456-426614174000'
BAD = [
    ('empty', ''),
    ('space', ' '),
    ('a name', 'cirros'),
    ('a path up', '../../etc/passwd'),
    ('an absolute path', '/etc/passwd'),
    ('a path of the length of a UUID', '../' * 12),
    ('a dot', '.'),
    ('two dots', '..'),
    ('without hyphens', _ID.replace('-', '')),
    ('in braces', f'{{{_ID}}}'),
    ('as a URN', f'urn:uuid:{_ID}'),
    ('hyphens elsewhere', '123e-4567e89b-12d3-a456-426614174000'),
    ('a digit less', _ID[:-1]),
    ('a digit more', _ID + '0'),
    ('a newline after it', _ID + '\n'),
    ('a space before it', ' ' + _ID),
    ('a NUL after it', _ID + '\0'),
    ('a path after it', _ID + '/..'),
    ('no hexadecimal digit', _ID.replace('e', 'g')),
    ('digits of another script', _ID.replace('4', '\u0664')),
    ('full-width digits', _ID.replace('4', '\uff14')),
    ('underscores', _ID.replace('00', '0_')),
    ('a sign', '+' + _ID[1:]),
    ('None', None),
    ('an integer', 5),
    ('bytes', _ID.encode()),
    ('a UUID object', uuid.UUID(_ID)),
    ('a list', [_ID]),
]


class BadIdTest(base.ContractTest):

    scenarios = testscenarios.multiply_scenarios(
        base.ENGINES, [(name, {'bad': bad}) for name, bad in BAD])
    bad: Any

    def test_is_refused(self) -> None:
        with base.nothing_left_behind():
            for call in (self.engine.info, self.engine.open,
                         self.engine.delete, self.engine.list_copies,
                         self.engine.repair):
                error = self.assertRaises(exceptions.InvalidRequest, call,
                                          self.bad)
                # Whoever made the mistake is told what would be right.
                self.assertIn('UUID', str(error))
            self.assertRaises(exceptions.InvalidRequest, self.engine.write,
                              self.bad, sources.Untouchable())
        self.assertEqual([], self.lab.leftovers())
        for device in self.engine.devices():
            self.assertTrue(device.available, device)
            if os.path.isabs(device.device):
                # Nothing was made beside what belongs there.
                self.assertEqual(
                    {'images', 'tmp', 'deleted', 'repair', 'quarantine',
                     'locks', 'easystack-block.json'},
                    set(os.listdir(device.device)))

    def test_is_named_briefly(self) -> None:
        error = self.assertRaises(exceptions.InvalidRequest,
                                  self.engine.info, 'x' * 100_000)
        self.assertLess(len(str(error)), 300)
