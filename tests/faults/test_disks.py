"""Which file systems are disks of their own."""

from __future__ import annotations

import os

from glance_store import exceptions as store_exceptions

from easystack_image import exceptions
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import provision
from tests.faults import base
from tests.faults import loop
from tests.faults import workspace

MIB = base.MIB


class TestDisks(base.TestCase):

    def test_loop_devices_are_told_apart(self) -> None:
        disks = self.loops()
        names = [device_module.disk_of(disk.path) for disk in disks]
        self.assertEqual(3, len(set(names)), names)
        for disk, name in zip(disks, names, strict=True):
            self.assertEqual(os.path.basename(disk.block_device),
                             os.path.basename(name))

    def test_file_systems_without_a_disk_are_told_apart(self) -> None:
        names = {device_module.disk_of(self.fuse().path) for _ in range(2)}
        self.assertEqual(2, len(names))

    def shared(self, count: int) -> tuple[loop.LoopDevice, list[str]]:
        """Return a disk, and directories on it."""
        disk = self.loop()
        paths = [disk.mount_point / str(number) for number in range(count)]
        for path in paths:
            path.mkdir()
        return disk, [str(path) for path in paths]

    def check_refused(self, paths: list[str], *sharing: str) -> None:
        error = self.assertRaises(store_exceptions.BadStoreConfiguration,
                                  base.Client, paths)
        for path in sharing:
            self.assertIn(path, str(error))
        self.assertIn('lie on the same disk', str(error))
        self.assertIn('easystack_block_allow_shared_disk', str(error))
        # To try things out it is allowed.
        client = base.Client(paths, allow_shared_disk=True)
        self.addCleanup(client.engine.close)
        data = base.content(MIB + 1)
        image_id, uri = self.upload(client, data)
        self.check_copies(client.engine, image_id, good=len(paths))
        self.check_image(client, uri, data)

    def test_three_directories_on_one_disk(self) -> None:
        _, paths = self.shared(3)
        provision.initialise(paths)
        self.check_refused(paths, *paths)

    def test_two_directories_on_one_disk(self) -> None:
        _, paths = self.shared(2)
        paths.append(self.loop().path)
        provision.initialise(paths)
        self.check_refused(paths, *paths[:2])

    def test_one_disk_under_two_names(self) -> None:
        disk, paths = self.shared(1)
        other = self.space.mount_point('other')
        workspace.run('mount', '--bind', disk.mount_point, other)
        self.addCleanup(workspace.run, 'umount', other)
        (other / 'second').mkdir()
        paths += [str(other / 'second'), self.loop().path]
        provision.initialise(paths)
        self.check_refused(paths, *paths[:2])

    def test_two_partitions_of_one_disk(self) -> None:
        first, second = self.partitions()
        self.assertEqual(device_module.disk_of(first),
                         device_module.disk_of(second))
        paths = [first, second, self.loop().path]
        provision.initialise(paths)
        self.check_refused(paths, first, second)

    def partitions(self) -> list[str]:
        """Return two file systems, each on a partition of one disk."""
        image = self.space.memory / 'partitioned'
        with image.open('wb') as file:
            file.truncate(160 * MIB)
        device, hold = loop.attach(image)
        self.addCleanup(os.close, hold)
        paths = []
        for number in (1, 2):
            path = self.space.mount_point(f'partition{number}')
            # In sectors: where it begins, and how long it is.
            begin, length = (number * 65 - 64) * MIB // 512, 64 * MIB // 512
            workspace.run('addpart', device, str(number), str(begin),
                          str(length))
            workspace.run('mkfs.ext4', '-q', f'{device}p{number}')
            workspace.run('mount', f'{device}p{number}', path)
            self.addCleanup(workspace.run, 'umount', path)
            paths.append(str(path))
        return paths

    def test_a_disk_that_is_away_is_no_reason_to_refuse(self) -> None:
        disks = self.loops()
        self.prepare(disks)
        disks[0].unmount()
        data = base.content(MIB)
        client = self.client()
        image_id, _ = self.upload(client, data)
        self.check_copies(client.engine, image_id, good=2)
        self.check_beneath()

    def test_devices_that_are_all_away(self) -> None:
        disks = self.loops()
        self.prepare(disks)
        for disk in disks:
            disk.unmount()
        error = self.assertRaises(store_exceptions.BadStoreConfiguration,
                                  self.client)
        self.assertIn('mount them', str(error))
        self.check_beneath()

    def test_preparing_what_cannot_be_written(self) -> None:
        disk = self.loop()
        disk.remount('ro')
        error = self.assertRaises(exceptions.ConfigurationError,
                                  provision.initialise, [disk.path])
        self.assertIn('Read-only file system', str(error))
