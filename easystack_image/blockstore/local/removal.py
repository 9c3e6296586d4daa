"""Removing copies, and remembering that an upload was deleted.

An upload is deleted as soon as one device has a mark that says so.  The mark
is made on every device that can be reached, before the first copy is removed;
so a device that was away brings nothing back, and a crash in between leaves
copies that are never served, which a sweep removes.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import errno
import logging
import shutil
import time

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import attempts
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)
Attached = device_module.Attached


def mark_deleted(attached: Attached, upload: layout.Upload) -> None:
    """Note on a device, durably, that an upload was deleted."""
    with attached.directory(layout.deleted_directory(
            upload.image_id)) as directory:
        with contextlib.suppress(FileExistsError):
            # An empty file takes no block, so a full disk has room for it.
            fsio.write_file(upload.name, b'', directory)
        fsio.fsync(directory)


def remove_copy(attached: Attached, image_id: str) -> None:
    """Remove the copy of an image from a device, if there is one.

    It leaves its place by rename, at once and as a whole.
    """
    trash = layout.trash_name()
    with attached.directory(layout.TMP) as tmp, attached.directory(
            layout.images_directory(image_id)) as images:
        try:
            fsio.rename(image_id, trash, images, tmp)
        except FileNotFoundError:
            return
        fsio.fsync(images)
        discard(trash, tmp)


def aside(attached: Attached, image_id: str,
          reason: str) -> Callable[[], None]:
    """Return a job that moves a copy into quarantine, with a note why.

    It does nothing if there is no copy.
    """
    name = _aside_name(image_id)

    def move() -> None:
        with attached.directory(layout.QUARANTINE) as quarantine, \
                attached.directory(layout.images_directory(
                    image_id)) as images:
            try:
                fsio.rename(image_id, name, images, quarantine)
            except FileNotFoundError:
                return
            # Where it is now first: it may be the last that there is.
            fsio.fsync(quarantine)
            fsio.fsync(images)
            _note(name, reason, quarantine)

    return move


def discard(name: str, tmp: int) -> None:
    """Remove what lies in tmp, whatever it is; it may be gone already."""
    try:
        fsio.remove_tree(name, tmp)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            # A file or a link stood where a copy should be.
            fsio.unlink(name, tmp)
        elif error.errno in (errno.EISDIR, errno.EPERM):
            # There was a directory among its files.
            shutil.rmtree(name, dir_fd=tmp)
        else:
            raise


def _aside_name(image_id: str) -> str:
    return f'{image_id}.{time.time_ns()}'


def _note(name: str, reason: str, quarantine: int) -> None:
    try:
        with fsio.directory(name, quarantine) as directory:
            fsio.write_file(layout.REASON, reason.encode() + b'\n',
                            directory)
    except OSError as error:
        # A disk too full or too broken for the note keeps the copy.
        LOG.warning('Quarantined copy %(name)s (%(reason)s) has no note: '
                    '%(error)s', {'name': name, 'reason': reason,
                                  'error': error})


class Remover:
    """Deletes uploads from all devices of a fleet."""

    def __init__(self, fleet: fleet_module.Fleet) -> None:
        self._fleet = fleet

    def delete(self, upload: layout.Upload,
               damaged_too: bool = False) -> bool:
        """Delete an upload wherever it is, now or when its device is back.

        :param damaged_too: whether copies of the image with a damaged
            manifest are this upload's as well
        :returns: whether all devices noted it and removed their copy
        :raises easystack_image.exceptions.NotEnoughCopies: if no device can
            note the deletion and not all can remove their copy; calling
            again is safe
        """
        marked, failures = self.mark(upload)
        removed, remove_failures = self._fleet.run(
            lambda device: self._remove(device, upload, damaged_too))
        if not marked and remove_failures:
            # A full disk may have room now.
            marked, failures = self.mark(upload)
        if not marked and remove_failures:
            raise exceptions.NotEnoughCopies(
                f'image {upload.image_id} could not be deleted',
                [*failures.values(), *remove_failures.values()])
        for failure in remove_failures.values():
            LOG.warning('Image %(image)s: its copy on %(failure)s; it will '
                        'be removed when the device is back.',
                        {'image': upload.image_id, 'failure': failure})
        return not (failures or remove_failures)

    def mark(self, upload: layout.Upload) -> tuple[
            dict[str, None], dict[str, exceptions.DeviceError]]:
        """Note on all devices that an upload was deleted; return where."""
        def mark(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                mark_deleted(attached, upload)

        return self._fleet.run(mark)

    def _remove(self, device: device_module.Device,
                upload: layout.Upload, damaged_too: bool) -> None:
        with contextlib.closing(device.attach(
                self._fleet.store_id)) as attached:
            if holds(attached, upload, damaged_too):
                remove_copy(attached, upload.image_id)
            with attached.directory(layout.REPAIR) as repair:
                attempts.remove(upload, repair)


def holds(attached: Attached, upload: layout.Upload,
          damaged_too: bool = False) -> bool:
    """Tell whether a device has a copy of this very upload.

    :param damaged_too: whether a copy counts whose manifest is damaged, so
        that it cannot be told which upload it was of
    """
    timed.beat()
    # What is there is looked at closely only where there is something.
    if not fsio.exists(layout.copy_directory(upload.image_id), attached.fd):
        return False
    finding = fleet_module.look(attached, upload.image_id)
    try:
        if finding.manifest is None:
            return damaged_too and bool(finding.damage)
        return finding.manifest.generation == upload.generation
    finally:
        finding.close_data()
