"""Every kind of damage to a copy, by name, and what a check must report."""

from __future__ import annotations

import time
from typing import ClassVar

import testscenarios

from easystack_image.blockstore.local import fsck
from easystack_image.blockstore.local import problems
from easystack_image.blockstore.local import work
from tests.crash import test_damage

Kind = problems.Kind

#: What is reported of a copy that is no good: that, and that one is lacking.
DAMAGED = {Kind.DAMAGED_COPY, Kind.BELOW_COPIES}
SIZE = {Kind.WRONG_SIZE, Kind.BELOW_COPIES}
FOREIGN = {Kind.FOREIGN_COPY, Kind.BELOW_COPIES}
STALE = {Kind.STALE_COPY, Kind.BELOW_COPIES}

#: By the names of :data:`tests.crash.test_damage.KINDS`; all those that are
#: not here do not show unless everything is read.
REPORTED: dict[str, set[Kind]] = {
    'cut by a byte': SIZE,
    'cut at a block': SIZE,
    'emptied': SIZE,
    'grown by a byte': SIZE,
    'grown by a block': SIZE,
    'data missing': DAMAGED,
    'manifest missing': DAMAGED,
    'empty directory': DAMAGED,
    'copy missing': {Kind.BELOW_COPIES},
    'manifest cut': DAMAGED,
    'manifest emptied': DAMAGED,
    'manifest grown': DAMAGED,
    'manifest of another image': FOREIGN,
    'manifest of an older upload': STALE,
    'manifest of another set of devices': FOREIGN,
    'manifest of a larger image': SIZE,
    'copy of another image': FOREIGN,
    'copy of an older upload': STALE,
    'link instead of data': DAMAGED | {Kind.LINK},
    'link instead of manifest': DAMAGED | {Kind.LINK},
    'directory instead of data': DAMAGED | {Kind.UNEXPECTED},
    'directory instead of manifest': DAMAGED | {Kind.UNEXPECTED},
    'link instead of copy': DAMAGED,
    'file instead of copy': DAMAGED,
}


class FsckCase(test_damage.DamageCase):

    def check(self, verify: bool = False) -> set[problems.Problem]:
        """Return what an engine that never started finds."""
        checker = fsck.Checker(self.engine.fleet, self.engine.settings)
        return set(checker.check(work.Job(),
                                 time.time() if verify else None))


class TestSound(FsckCase):

    def test(self) -> None:
        """An image, another, and one that was deleted: nothing is wrong."""
        self.assertEqual(set(), self.check())
        # Nothing was changed, either.
        self.assertTrue(self.baseline == self.devices.tree())
        self.assertEqual(set(), self.check(verify=True))

    def test_all_swapped(self) -> None:
        test_damage.swap(self)
        found = self.check()
        self.assertEqual({Kind.FOREIGN_COPY, Kind.BELOW_COPIES},
                         {each.kind for each in found})
        self.assertEqual({self.image_id, self.other_id},
                         {each.image for each in found})


class TestOneCopy(testscenarios.WithScenarios, FsckCase):
    """One copy of three is damaged."""

    scenarios: ClassVar = [(name, {'name': name, 'damage': damage})
                           for name, damage in test_damage.KINDS.items()]
    name: str
    damage: test_damage.Damage

    def test(self) -> None:
        self.damage.inflict(self)
        quick = REPORTED.get(self.name, set())
        self.assertEqual(self.damage.plain, bool(quick))
        found = self.check()
        self.assertEqual(quick, {each.kind for each in found})
        found = self.check(verify=True)
        self.assertEqual(quick or {Kind.DAMAGED_COPY},
                         {each.kind for each in found})
        self.assertEqual({self.image_id}, {each.image for each in found})
        device = str(self.copy.parents[2])
        for each in found:
            self.assertIn(each.device, ('', device))

    def test_after_repair(self) -> None:
        self.damage.inflict(self)
        self.engine.repair(self.image_id)
        self.assertEqual(
            {Kind.QUARANTINE} if self.damage.aside else set(),
            {each.kind for each in self.check(verify=True)})
