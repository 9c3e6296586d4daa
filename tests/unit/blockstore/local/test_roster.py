"""Which devices there are, and what would be done to them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
import shutil

from easystack_image import exceptions
from easystack_image.blockstore.local import roster
from easystack_image.blockstore.local import work
from tests.unit.blockstore.local import operating


class RosterTest(operating.OperatingTest):

    def setUp(self) -> None:
        super().setUp()
        self.store_some(6)
        self.first, *self.others = self.devices
        self.who = self.identity(self.first)

    def entries(self) -> dict[str, roster.Entry]:
        return {os.path.basename(entry.path): entry
                for entry in roster.take(self.fleet)}

    def test_all_well(self) -> None:
        entries = self.entries()
        self.assertEqual([f'disk{number}' for number in range(6)],
                         list(entries))
        usage = shutil.disk_usage(self.first)
        for path in self.devices:
            entry = entries[os.path.basename(path)]
            identity = self.identity(path)
            self.assertEqual(
                (identity.device_id, identity.zone, identity.weight,
                 'active', usage.total, ''),
                (entry.device_id, entry.zone, entry.weight, entry.state,
                 entry.total, entry.reason))
            self.assertEqual(
                sum(path in self.holders(each) for each in self.images),
                entry.copies)
            self.assertTrue(entry.there)
            # Others use the disk of this machine, too.
            self.assertAlmostEqual(
                100 * usage.used / (usage.used + usage.free),
                entry.used_percent, delta=1)

    def test_not_prepared(self) -> None:
        entry = self.entries()['disk4']
        self.assertEqual(('', '', 'unavailable', False, 0.0), (
            entry.device_id, entry.zone, entry.state, entry.there,
            entry.used_percent))
        self.assertIn('is not a device', entry.reason)

    def test_away(self) -> None:
        """Who it is, the others know."""
        self.lab.take_away(self.first)
        self.engine = self.restart()
        entry = self.entries()['disk0']
        self.assertEqual(
            (self.who.device_id, self.who.zone, 'unavailable', 0),
            (entry.device_id, entry.zone, entry.state, entry.copies))

    def test_not_listed(self) -> None:
        self.all = self.others
        self.engine = self.restart()
        entry = self.entries()['disk0']
        self.assertEqual(('unlisted', 'not in the configuration'),
                         (entry.state, entry.reason))

    def test_replaced(self) -> None:
        """By one at another path: while it is there, and when it is gone."""
        self.engine.membership.replace(self.first, self.more[0])
        self.assertEqual('replaced', self.entries()['disk0'].state)
        self.assertEqual('active', self.entries()['disk4'].state)
        self.lab.take_away(self.first)
        self.engine = self.restart()
        self.assertEqual('replaced', self.entries()['disk0'].state)

    def test_exchanged(self) -> None:
        """Another device of the set is at its path now."""
        second = self.others[0]
        os.rename(self.first, f'{self.first}.elsewhere')
        os.rename(second, self.first)
        try:
            self.engine = self.restart()
            entries = roster.take(self.fleet)
        finally:
            os.rename(self.first, second)
            os.rename(f'{self.first}.elsewhere', self.first)
        last = entries[-1]
        self.assertEqual(
            (self.first, self.who.device_id, 'unlisted'),
            (last.path, last.device_id, last.state))
        self.assertIn('another device', last.reason)


class ForecastTest(operating.OperatingTest):
    """What is foretold comes to pass, and foretelling changes nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.store_some(8)
        self.first = self.devices[0]
        self.forecast = self.engine.forecast
        self.membership = self.engine.membership
        self.before = self.state()

    def state(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes()
                for device in self.all for path in Path(device).rglob('*')
                if path.is_file() and path.parent.name != 'locks'}

    def unchanged(self) -> None:
        self.assertEqual(self.before, self.state())
        # Nor does this process take devices for what they are not.
        self.assertEqual(frozenset(), self.fleet.out)
        self.assertEqual({}, {
            path: device.known for path, device in self.fleet.devices.items()
            if path in self.more and device.known is not None})

    def test_drain(self) -> None:
        plans = self.forecast.drain(self.first, work.Job())
        self.unchanged()
        self.membership.drain(self.first)
        self.assertEqual(plans, self.membership.move_away(self.first,
                                                          work.Job()))

    def test_drain_refused(self) -> None:
        self.membership.drain(self.first)
        self.before = self.state()
        self.assertRaises(exceptions.Refused, self.forecast.drain,
                          self.devices[1], work.Job())
        self.assertEqual(self.before, self.state())

    def test_rebalance(self) -> None:
        self.membership.add(self.more[0])
        self.before = self.state()
        plans = self.forecast.rebalance(work.Job())
        self.assertEqual(self.before, self.state())
        self.assertEqual(plans, self.rebalance())

    def test_remove(self) -> None:
        self.assertRaises(exceptions.Refused, self.forecast.remove,
                          self.first)
        plans = self.forecast.remove(self.first, self.first)
        self.unchanged()
        self.assertEqual(
            {image_id for image_id in self.images
             if self.first in self.holders(image_id)},
            {plan.image_id for plan in plans})
        self.assertEqual({((), (self.first,), 3000)},
                         {(plan.make, plan.remove, plan.size)
                          for plan in plans})

    def test_replace(self) -> None:
        """A device that works, by one at another path."""
        plans = self.forecast.replace(self.first, self.more[0], None, None,
                                      work.Job())
        self.unchanged()
        self.membership.replace(self.first, self.more[0])
        self.assertEqual(plans, self.rebalance())

    def test_replace_at_the_same_path(self) -> None:
        self.kill_disk(self.first)
        self.engine = self.restart()
        self.before = self.state()
        plans = self.engine.forecast.replace(self.first, self.first, None,
                                             None, work.Job())
        self.assertEqual(self.before, self.state())
        self.engine.membership.replace(self.first, self.first)
        self.assertEqual(plans, self.rebalance())

    def test_replace_goes_on(self) -> None:
        self.membership.replace(self.first, self.more[0])
        plans = self.forecast.replace(self.first, self.more[0], None, None,
                                      work.Job())
        self.assertEqual(plans, self.rebalance())

    def test_replace_refused(self) -> None:
        """As it would be, and for the same reasons."""
        for old, new in ((self.first, self.first),
                         (self.first, self.devices[1]),
                         (self.more[0], self.more[1]),
                         (self.first, '/elsewhere')):
            self.assertRaises(
                exceptions.ConfigurationError, self.forecast.replace, old,
                new, None, None, work.Job())
        self.unchanged()

    def test_stopped(self) -> None:
        job = work.Job()
        job.stop.set()
        self.membership.add(self.more[0])
        self.assertRaises(exceptions.Interrupted, self.forecast.rebalance,
                          job)
        self.assertRaises(exceptions.Interrupted, self.forecast.drain,
                          self.first, job)
        self.assertEqual(frozenset(), self.fleet.out)


class EntryTest(operating.base.testtools.TestCase):

    def test_percentage(self) -> None:
        entry = roster.Entry('/disk', 'id', 'zone', 1.0, 'active', 100, 60,
                             20)
        self.assertEqual(75.0, entry.used_percent)
        self.assertEqual(0.0, dataclasses.replace(
            entry, used=0, free=0).used_percent)
