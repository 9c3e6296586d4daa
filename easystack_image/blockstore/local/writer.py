"""Writing one copy of an image to one device.

The order in which a copy becomes durable, and why:

1. ``data`` is written under ``tmp/upload.…`` and synced.  It is locked all
   the while, so that others can tell an upload under way from a leftover.
2. ``manifest`` is written beside it and synced, then their directory: a
   sound manifest vouches for data that is durable already.
3. When enough copies are this far, the directory is renamed into
   ``images/XX``, which makes it a copy at once and as a whole, and
   ``images/XX`` is synced.  Nothing is acknowledged before.

A crash before 3 leaves something in ``tmp``, which a sweep removes.  A crash
amid 3 leaves at least one copy in place, and a sweep moves the others, which
are complete, to their places too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout

LOG = logging.getLogger(__name__)

#: O_DIRECT wants addresses, offsets and lengths in multiples of the logical
#: sector size; no disk has a larger one than this.
ALIGNMENT = 4096
#: How far the size of the file runs ahead of the data, in bytes, so that
#: writes do not change it: in direct mode that costs a journal entry each.
HEADROOM = 1024 * 1024 * 1024
#: How much may lie in the page cache unsynced, in bytes, where O_DIRECT is
#: not to be had: so the final sync takes not much longer than the others.
SYNC_EVERY = 64 * 1024 * 1024


class CopyWriter:
    """One copy of an upload, on its way to one device.

    Its methods block as long as the device does; they run in a lane.

    :param attached: the device; closed by :meth:`close`
    :param direct_io: whether to try O_DIRECT
    """

    def __init__(self, attached: device_module.Attached,
                 upload: layout.Upload, direct_io: bool) -> None:
        self.attached = attached
        self.committed = False
        self._upload = upload
        self._direct = direct_io
        self._name = layout.upload_name(upload.generation)
        self._directory = -1
        self._data = -1
        self._allocated = 0
        self._unsynced = 0

    @property
    def path(self) -> str:
        """The path of the device."""
        return self.attached.path

    def begin(self) -> None:
        """Create the files and lock them."""
        with self.attached.directory(layout.TMP) as tmp:
            # Shared: a sweep, which locks tmp exclusively, must not see the
            # directory before its data file exists and is locked.
            fcntl.flock(tmp, fcntl.LOCK_SH)
            fsio.mkdir(self._name, tmp)
            self._directory = fsio.open_directory(self._name, tmp)
            self._data = self._create_data()
            fcntl.flock(self._data, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _create_data(self) -> int:
        if self._direct:
            try:
                return fsio.create(layout.DATA, self._directory, os.O_DIRECT)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            # Some file systems know no O_DIRECT (tmpfs of older kernels).
            self._direct = False
            with contextlib.suppress(FileNotFoundError):
                fsio.unlink(layout.DATA, self._directory)
        return fsio.create(layout.DATA, self._directory)

    def write(self, chunk: pipeline.Chunk,
              runs: list[tuple[int, int]]) -> None:
        """Write the parts of a chunk that are not all zeros.

        :param runs: (begin, end) of each part, in bytes within the chunk;
            begins are multiples of the block size
        """
        end = chunk.offset + chunk.length
        if end > self._allocated:
            self._allocated = max(end, self._allocated + HEADROOM)
            fsio.truncate(self._data, self._allocated)
        for begin, stop in runs:
            if self._direct:
                # The last bytes of the image need not fill a sector; what
                # is written behind them is cut off in seal().
                stop = -(-stop // ALIGNMENT) * ALIGNMENT
            self._write_run(chunk.view[begin:stop], chunk.offset + begin)
            self._unsynced += stop - begin
        if not self._direct and self._unsynced >= SYNC_EVERY:
            fsio.fsync(self._data)
            os.posix_fadvise(self._data, 0, 0, os.POSIX_FADV_DONTNEED)
            self._unsynced = 0

    def _write_run(self, data: memoryview, offset: int) -> None:
        try:
            fsio.write_at(self._data, data, offset)
        except OSError as error:
            if not (self._direct and error.errno == errno.EINVAL):
                raise
            # Opened with O_DIRECT, and will not write like that (FUSE).
            self._direct = False
            flags = fcntl.fcntl(self._data, fcntl.F_GETFL)
            fcntl.fcntl(self._data, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            fsio.write_at(self._data, data, offset)

    def seal(self, size: int, manifest: bytes) -> None:
        """Make the data durable, then the manifest (steps 1 and 2)."""
        fsio.truncate(self._data, size)
        fsio.fsync(self._data)
        fsio.write_file(layout.MANIFEST, manifest, self._directory)
        fsio.fsync(self._directory)

    def commit(self) -> None:
        """Make it the copy of the image (step 3).

        :raises FileExistsError: or OSError with ENOTEMPTY, if there is one
        """
        self.attached.check_mounted()
        with self.attached.directory(layout.TMP) as tmp, \
                self.attached.directory(layout.images_directory(
                    self._upload.image_id)) as images:
            fsio.rename(self._name, self._upload.image_id, tmp, images)
            self.committed = True
            fsio.fsync(images)

    def abort(self) -> None:
        """Remove what was written, if it is not a copy yet, and close."""
        try:
            if not self.committed:
                with self.attached.directory(layout.TMP) as tmp:
                    fsio.remove_tree(self._name, tmp)
        except OSError as error:
            LOG.warning('Device %(device)s: an unfinished upload could not '
                        'be removed (%(error)s); a sweep will do it.',
                        {'device': self.path, 'error': error})
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the files and of the device."""
        for fd in (self._data, self._directory):
            if fd >= 0:
                os.close(fd)
        self._data = self._directory = -1
        self.attached.close()


def as_device_error(path: str,
                    error: BaseException) -> exceptions.DeviceError:
    """Return what happened on a device as a DeviceError."""
    if isinstance(error, exceptions.DeviceError):
        return error
    if isinstance(error, TimeoutError) and error.errno is None:
        return exceptions.DeviceTimeout(path, str(error))
    if isinstance(error, OSError):
        return exceptions.DeviceError(
            path, error.strerror or str(error), error.errno)
    return exceptions.DeviceError(path, f'{type(error).__name__}: {error}')
