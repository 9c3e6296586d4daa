"""Removing for good what was kept for a while only.

* Copies in quarantine, once nobody looked at them for long enough.
* The marks of deleted uploads.  A device that is away for longer than they
  are kept could bring an image back; so they go only while every device is
  there, and after their copies were removed everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
import contextlib
import logging
import os
import re
import time

from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)

_ASIDE = re.compile(r'[0-9a-f-]{36}[.](\d+)')


class Expiry:
    """Removes what is too old from the devices of a fleet."""

    def __init__(self, fleet: fleet_module.Fleet) -> None:
        self._fleet = fleet
        self._began = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)

    def _clock(self) -> float:
        """Return the time, in seconds since the epoch, or an earlier one.

        A clock that was set forward, by mistake or after it had been wrong,
        makes nothing old in this process that was made under its eyes.
        """
        time_of_day, since_boot = self._began
        return min(time.time(), time_of_day + time.clock_gettime(
            time.CLOCK_BOOTTIME) - since_boot)

    def remove_quarantined(self, ttl: float) -> int:
        """Remove the copies that were put aside longer ago.

        :param ttl: seconds
        :returns: how many were removed
        """
        limit = self._clock() - ttl

        def remove(device: device_module.Device) -> int:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return _remove_quarantined(attached, limit)

        found, failures = self._fleet.run(remove, patience=inventory.LONG)
        for failure in failures.values():
            LOG.warning('Quarantine is not cleared: %s', failure)
        return sum(found.values())

    def count_quarantined(self) -> int:
        """Return how many copies lie in quarantine."""
        def count(device: device_module.Device) -> int:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached, \
                    attached.directory(layout.QUARANTINE) as quarantine:
                return len(os.listdir(quarantine))

        found, _ = self._fleet.run(count)
        return sum(found.values())

    def remove_marks(self, ttl: float) -> int:
        """Remove the marks of uploads that were deleted longer ago.

        Call it after a sweep that reached every device.

        :param ttl: seconds
        :returns: how many uploads were forgotten
        """
        limit = self._clock() - ttl

        def find(device: device_module.Device) -> dict[layout.Upload, float]:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return _marks(attached)

        found, failures = self._fleet.run(find, patience=inventory.LONG)
        if self._missing(failures):
            LOG.info('Marks of deleted images are kept while a device is '
                     'away.')
            return 0
        newest: dict[layout.Upload, float] = {}
        for marks in found.values():
            for upload, age in marks.items():
                newest[upload] = max(age, newest.get(upload, 0.0))
        old = self._without_copies(
            {upload for upload, age in newest.items() if age < limit}, found)

        def remove(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                _remove_marks(attached, old)

        if old:
            self._fleet.run(remove, paths=found, patience=inventory.LONG)
        return len(old)

    def _missing(self, failures: Collection[str]) -> bool:
        """Tell whether a member of the set could not be asked.

        One that the configuration does not list (any more) may be mounted
        elsewhere, and come back.

        :param failures: the configured devices that could not be
        """
        known = members.Members(self._fleet).known()
        present, _ = self._fleet.run(self._identify, paths=[
            path for path in self._fleet.devices if path not in failures])
        if failures and not self._fleet.remembered:
            return True
        replaced = {each.identity.replaces for each in known.values()}
        return bool(set(known) - set(present.values()) - replaced)

    def _identify(self, device: device_module.Device) -> str:
        with contextlib.closing(device.attach(
                self._fleet.store_id)) as attached:
            return attached.identity.device_id

    def _without_copies(self, uploads: set[layout.Upload],
                        paths: Iterable[str]) -> set[layout.Upload]:
        """Return those uploads of which no device has a copy any more.

        A device that came back since the last sweep has copies that missed
        their deletion: they would count again if the marks went.
        """
        def find(device: device_module.Device) -> set[layout.Upload]:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return {upload for upload in uploads
                        if removal.holds(attached, upload, damaged_too=True)}

        if not uploads:
            return set()
        found, failures = self._fleet.run(find, paths=paths,
                                          patience=inventory.LONG)
        return set() if failures else uploads.difference(*found.values())


def _remove_quarantined(attached: device_module.Attached,
                        limit: float) -> int:
    count = 0
    with attached.directory(layout.QUARANTINE) as quarantine, \
            attached.directory(layout.TMP) as tmp:
        for name in os.listdir(quarantine):
            match = _ASIDE.fullmatch(name)
            if match is None or max(int(match[1]) / 1e9,
                                    _put_aside_at(name, quarantine)) > limit:
                continue
            # By way of tmp, where a sweep finds it after a crash.
            trash = layout.trash_name()
            fsio.rename(name, trash, quarantine, tmp)
            fsio.fsync(quarantine)
            removal.discard(trash, tmp)
            timed.beat()
            LOG.info('Removed %(name)s from quarantine on %(device)s.',
                     {'name': name, 'device': attached.path})
            count += 1
    return count


def _put_aside_at(name: str, quarantine: int) -> float:
    """Return when something was put in quarantine, or touched since.

    The clock may have been wrong when it got its name; neither renaming it
    nor copying the device from elsewhere keeps the time of the last change.
    """
    found = fsio.status(name, quarantine)
    return max(found.st_mtime, found.st_ctime)


def _marks(attached: device_module.Attached) -> dict[layout.Upload, float]:
    found = {}
    for shard in device_module.SHARDS:
        with attached.directory(f'deleted/{shard}') as directory:
            timed.beat()
            for name in os.listdir(directory):
                upload = layout.upload_of_mark(name)
                if upload is not None:
                    found[upload] = fsio.status(name, directory).st_mtime
    return found


def _remove_marks(attached: device_module.Attached,
                  uploads: set[layout.Upload]) -> None:
    for upload in uploads:
        timed.beat()
        with attached.directory(layout.deleted_directory(
                upload.image_id)) as directory, \
                contextlib.suppress(FileNotFoundError):
            fsio.unlink(upload.name, directory)
