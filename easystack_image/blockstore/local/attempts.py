"""How repairs ended that were in vain.

Beside the mark of an upload that waits for repair lies, once that was tried
and did not make it whole, a file that tells why (``ID.GENERATION.tried``).
So every process knows it, and an image of which nothing good is left is not
read over and over.  It counts for as long as the mark is there, and as nobody
asked for a repair since; losing it means that a repair is tried once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
import contextlib
import dataclasses
import json
import logging
import os
import time

from easystack_image import fsio
from easystack_image.blockstore import engine
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout

LOG = logging.getLogger(__name__)

FORMAT = 1
LIMIT = 1024 * 1024
#: The most characters of a reason that are kept.
LONGEST = 4096
#: Seconds that the clock of a file server may be ahead of ours.
AHEAD = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt(engine.RepairAttempt):
    """A repair that was tried in vain."""

    #: Ids of the devices that were asked.
    devices: frozenset[str]

    def answers(self, requested_at: float) -> bool:
        """Tell whether it is what came of a request.

        A time to come tells nothing: the clock was wrong.
        """
        return not self.began_at < requested_at <= time.time() + AHEAD

    def repeats(self, earlier: Attempt | None) -> bool:
        """Tell whether it says nothing that an earlier one did not.

        Of a lost image it does: when that was tried last.
        """
        return earlier is not None and not self.lost and (
            earlier.lost, earlier.reason, earlier.devices) == (
            self.lost, self.reason, self.devices)

    def condemns(self, device_id: str, verified_at: float) -> bool:
        """Tell whether it found the copy on a device bad.

        Of what it did not ask, and of what was read and found good since, it
        tells nothing.

        :param verified_at: when the copy was verified last, or written
        """
        since = self.ended_at < verified_at <= time.time() + AHEAD
        return self.lost and device_id in self.devices and not since

    def pack(self) -> bytes:
        """Return the content of the file: a JSON object, and ``format``."""
        fields = {'format': FORMAT, **dataclasses.asdict(self),
                  'devices': sorted(self.devices)}
        return json.dumps(fields, indent=1, sort_keys=True).encode() + b'\n'

    @classmethod
    def unpack(cls, data: bytes) -> Attempt:
        """Return what a file holds.

        :raises ValueError: (or KeyError, TypeError) if it is damaged, or of
            another format
        """
        fields = json.loads(data)
        if fields['format'] != FORMAT:
            raise ValueError(f'it has format {fields["format"]!r}')
        return cls(float(fields['began_at']), float(fields['ended_at']),
                   bool(fields['lost']), str(fields['reason']),
                   frozenset(map(str, fields['devices'])))


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """An upload that waits for repair."""

    #: When that was asked for last, or found necessary.
    requested_at: float
    #: What came of it, if it was tried since.
    attempt: Attempt | None


class Attempts:
    """What the devices of a fleet know of repairs that were tried."""

    def __init__(self, fleet: fleet_module.Fleet) -> None:
        self._fleet = fleet

    def waiting(self, image_id: str | None = None,
                paths: Iterable[str] | None = None,
                ) -> dict[layout.Upload, Waiting]:
        """Return the uploads that wait for repair.

        :param image_id: of the only image to look for, or None for all
        :param paths: of the devices to ask, by default all
        """
        def look(device: device_module.Device,
                 ) -> dict[layout.Upload, tuple[float, Attempt | None]]:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached, \
                    attached.directory(layout.REPAIR) as repair:
                names = set(os.listdir(repair))
                uploads = filter(None, map(layout.upload_of_mark, names))
                return {upload: (time_of(upload.name, repair),
                                 _read(upload, repair, device.path)
                                 if layout.tried_name(upload) in names
                                 else None)
                        for upload in uploads
                        if image_id in (None, upload.image_id)}

        found, _ = self._fleet.run(look, paths=paths)
        return {upload: newest([each[upload] for each in found.values()
                                 if upload in each])
                for upload in set().union(*found.values())}

    def faults(self, attempt: Attempt | None,
               copies: Mapping[str, float]) -> dict[str, str]:
        """Return what is wrong with copies, as far as an attempt tells.

        :param copies: when each was verified last, by device path
        """
        if attempt is None:
            return {}
        read = time.strftime('%Y-%m-%d %H:%M', time.gmtime(attempt.ended_at))
        known = {path: self._fleet.devices[path].known for path in copies}
        return {path: f'was bad when all of it was read ({read} UTC)'
                for path, identity in known.items() if identity is not None
                and attempt.condemns(identity.device_id, copies[path])}

    def note(self, uploads: Collection[layout.Upload],
             attempt: Attempt) -> None:
        """Note how a repair of uploads that wait for it ended.

        Only a hint: where it cannot be noted, it is tried again.
        """
        data = dataclasses.replace(
            attempt, reason=attempt.reason[:LONGEST]).pack()

        def write(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached, \
                    attached.directory(layout.REPAIR) as repair:
                for upload in uploads:
                    fsio.replace_file(layout.tried_name(upload), data,
                                      repair)

        _, failures = self._fleet.run(write)
        for failure in failures.values():
            LOG.debug('What came of a repair is not noted: %s', failure)


def remove(upload: layout.Upload, repair: int) -> None:
    """Remove the mark of an upload, and what came of its repairs.

    The mark last: without it, nobody would look for the rest.

    :param repair: a device's directory of marks
    """
    if not fsio.exists(upload.name, repair):
        return
    tried = layout.tried_name(upload)
    for name in (tried, tried + fsio.NEW):
        if fsio.exists(name, repair):
            with contextlib.suppress(FileNotFoundError):
                fsio.unlink(name, repair)
    with contextlib.suppress(FileNotFoundError):
        fsio.unlink(upload.name, repair)


def time_of(name: str, directory: int) -> float:
    """Return when a mark was made, or renewed; 0 if it is gone."""
    try:
        return os.stat(name, dir_fd=directory,
                       follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def _read(upload: layout.Upload, repair: int, path: str) -> Attempt | None:
    try:
        return Attempt.unpack(fsio.read_file(layout.tried_name(upload),
                                             repair, LIMIT))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        LOG.debug('%(device)s: what came of a repair of %(upload)s cannot be '
                  'read: %(error)s', {'device': path, 'upload': upload.name,
                                      'error': error})
        return None


def newest(found: Sequence[tuple[float, Attempt | None]]) -> Waiting:
    """Return what several together know of an upload, or of an image.

    :param found: when it was asked for, and what came of it then
    """
    requested_at = max(at for at, _ in found)
    attempt = max((each for _, each in found if each is not None
                   and each.answers(requested_at)), default=None,
                  key=lambda each: each.ended_at)
    return Waiting(requested_at, attempt)
