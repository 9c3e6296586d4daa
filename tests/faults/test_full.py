"""Devices that have no room left."""

from __future__ import annotations

import errno
import itertools

from glance_store import exceptions as store_exceptions

from tests.faults import base
from tests.functional import processes

MIB = base.MIB
DATA = base.content(40 * MIB + 4321, seed=1)
#: Not enough for DATA.
TIGHT = 24 * MIB


class TestFullDevices(base.TestCase):

    def make(self, full: int, **options: object) -> base.Client:
        """Return a client of three devices, of which some are tight."""
        client = self.client_on(*self.loops(), **options)
        self.tight = self.devices[:full]
        for device in self.tight:
            device.fill(leave=TIGHT)
            self.assertGreater(device.free(), TIGHT // 2)
        return client

    def check_left_out(self, client: base.Client, known: bool) -> None:
        """See an upload succeed on the two devices that have room."""
        image_id, uri = self.upload(client, DATA, known=known)
        self.assertEqual(
            [base.MISSING, base.GOOD, base.GOOD],
            [self.states(client.engine, image_id)[device.path]
             for device in self.devices])
        self.check_image(client, uri, DATA)
        # All that is on the full device is the note that a copy is missing.
        self.check_nothing_left(self.tight[0], notes=True)
        self.assertGreater(self.tight[0].free(), TIGHT // 2)

    def test_one_of_three(self) -> None:
        self.check_left_out(self.make(1), known=True)

    def test_one_of_three_and_unknown_size(self) -> None:
        self.check_left_out(self.make(1), known=False)

    def test_one_of_three_in_the_page_cache(self) -> None:
        self.check_left_out(self.make(1, direct_io=False), known=True)

    def check_refused(self, client: base.Client) -> None:
        """See an upload refused, and a small one accepted after it."""
        cause = self.refused(store_exceptions.StorageFull, client, DATA)
        self.assertEqual({errno.ENOSPC},
                         {each.errno for each in cause.causes})
        self.assertEqual({device.path for device in self.tight},
                         {each.device for each in cause.causes})
        self.check_nothing_left()
        small = DATA[:MIB + 1]
        image_id, uri = self.upload(client, small)
        self.check_copies(client.engine, image_id, good=3)
        self.check_image(client, uri, small)

    def test_two_of_three(self) -> None:
        self.check_refused(self.make(2))

    def test_two_of_three_in_the_page_cache(self) -> None:
        self.check_refused(self.make(2, direct_io=False))

    def test_a_roomier_device_is_taken_instead(self) -> None:
        client = self.client_on(*self.loops(4))
        first = self.devices[2]
        first.fill(leave=TIGHT)
        image_id, uri = self.upload(client, DATA,
                                    image_id=self.image_for(first))
        self.check_copies(client.engine, image_id, good=3)
        self.check_image(client, uri, DATA)
        self.check_nothing_left(first)

    def test_images_are_deleted_from_full_devices(self) -> None:
        client = self.client_on(*self.loops())
        _, uri = self.upload(client, DATA)
        for device in self.devices:
            device.fill()
            self.assertEqual(0, device.free())
        self.check_image(client, uri, DATA)
        client.delete(uri)
        self.check_nothing_left()
        self.assertRaises(store_exceptions.NotFound, client.download, uri)

    def test_the_copy_is_made_when_there_is_room(self) -> None:
        self.prepare(self.loops())
        ballast = self.devices[0].fill(leave=TIGHT)
        client = self.client(self_repair=True, sweep_interval=5)
        image_id, uri = self.upload(client, DATA)
        ballast.unlink()
        processes.poll(
            lambda: self.count(client.engine, image_id, base.GOOD) == 3,
            'the third copy', 20)
        self.check_image(client, uri, DATA)

    def test_no_inode_is_left(self) -> None:
        client = self.client_on(self.loop(inodes=1024),
                                self.loop(inodes=1024), self.loop())
        for device in self.devices[:2]:
            use_up_inodes(device)
        cause = self.refused(store_exceptions.StorageFull, client, DATA)
        self.assertEqual({errno.ENOSPC},
                         {each.errno for each in cause.causes})
        self.check_nothing_left()

    def test_images_are_deleted_when_no_inode_is_left(self) -> None:
        client = self.client_on(*(self.loop(inodes=1024) for _ in range(3)))
        _, uri = self.upload(client, DATA)
        for device in self.devices:
            use_up_inodes(device)
        client.delete(uri)
        self.check_nothing_left()
        self.assertRaises(store_exceptions.NotFound, client.download, uri)


def use_up_inodes(device: base.Device) -> None:
    """Make empty files until there can be no more."""
    for number in itertools.count():
        try:
            (device.inside / 'lost+found' / str(number)).touch()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return
