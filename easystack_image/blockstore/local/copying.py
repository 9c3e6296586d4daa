"""Making further copies of an image that is stored already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import logging
import os

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import reader as reader_module
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import transfer as transfer_module
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)


def info_of(manifest: manifest_module.Manifest) -> engine.ImageInfo:
    """Return what a manifest tells of its image."""
    return engine.ImageInfo(
        image_id=manifest.image_id, generation=manifest.generation,
        size=manifest.size, md5=manifest.md5.hex(),
        algorithm=manifest.algorithm, multihash=manifest.multihash.hex(),
        created_at=manifest.created_at)


@dataclasses.dataclass(frozen=True, slots=True)
class _Attempt:
    """Where copies were made, and why not elsewhere; by device path."""

    made: list[str]
    failures: dict[str, exceptions.DeviceError]


class Copier:
    """Makes copies, from verified blocks, on the devices of a fleet."""

    def __init__(self, fleet: fleet_module.Fleet,
                 settings: settings_module.Settings,
                 report: Callable[[layout.Upload], None] = lambda _: None,
                 ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._report = report

    def make(self, survey: fleet_module.Survey, faults: Mapping[str, str],
             paths: Sequence[str], count: int, used_zones: Sequence[str],
             job: work.Job) -> list[str]:
        """Make ``count`` new copies of an image, or as many as is possible.

        What lies in their places goes into quarantine.  Call with the lock
        for ``repair`` on the image held.

        :param survey: of the image, which has sound copies
        :param faults: what is wrong with copies, by device path; those are
            read from as a last resort only
        :param paths: of the devices to choose from
        :param used_zones: zones that hold a copy already
        :returns: the paths of the devices that have one now
        :raises easystack_image.exceptions.DamagedImage: if the copies there
            are do not make up one good one
        :raises easystack_image.exceptions.NotEnoughCopies: if no device
            could take a copy
        :raises easystack_image.exceptions.ImageNotFound: if the image was
            deleted meanwhile
        """
        made: list[str] = []
        rest = list(paths)
        failures: dict[str, exceptions.DeviceError] = {}
        while rest and len(made) < count:
            zones = [*used_zones, *(survey.findings[path].zone
                                    for path in made)]
            attempt = self._attempt(survey, faults, rest, count - len(made),
                                    zones, job)
            made += attempt.made
            failures |= attempt.failures
            if not attempt.failures:
                # All went well, or there is no device left to choose.
                break
            rest = [path for path in rest
                    if path not in failures and path not in made]
        if not made and failures:
            raise exceptions.NotEnoughCopies(
                f'image {survey.image_id}: no new copy can be made',
                list(failures.values()))
        return made

    def _transfer(self, survey: fleet_module.Survey,
                  ) -> transfer_module.Transfer:
        manifest = survey.sound()[0].described()
        return transfer_module.Transfer(
            layout.Upload(manifest.image_id, manifest.generation),
            self._settings.io_timeout, 1, self._settings.direct_io,
            self._fleet.hang)

    def _attempt(self, survey: fleet_module.Survey,
                 faults: Mapping[str, str], paths: Sequence[str],
                 count: int, zones: Sequence[str],
                 job: work.Job) -> _Attempt:
        manifest = survey.sound()[0].described()
        source = self._source(survey, faults, manifest)
        transfer = self._transfer(survey)
        made: list[str] = []
        failures: dict[str, exceptions.DeviceError] = {}
        try:
            attached, failures = self._fleet.attach_targets(
                survey.image_id, manifest.size, paths, zones)
            transfer.begin(attached, count)
            written = transfer.pump(_Joined(source, job), lambda chunk: None)
            if written != (manifest.size, manifest.checksums):
                # Verified when it was read, so that it went wrong here: bad
                # memory, most likely.
                raise exceptions.DamagedImage(
                    f'image {survey.image_id}: what was to be written is not '
                    'what was read; nothing was changed')
            transfer.seal(manifest.size, manifest_module.pack(manifest))
            made = self._commit(transfer, faults)
        except exceptions.NotEnoughCopies as error:
            failures |= {cause.device: cause for cause in error.causes}
        finally:
            source.close()
            transfer.end()
        return _Attempt(made, failures | {
            failure.device: failure for failure in transfer.failures})

    def _source(self, survey: fleet_module.Survey, faults: Mapping[str, str],
                manifest: manifest_module.Manifest,
                ) -> reader_module.LocalReader:
        """Read from all copies, the damaged ones only as a last resort."""
        copies = [reader_module.CopyFile(finding.path, os.dup(finding.data),
                                         manifest, finding.on_disk)
                  for finding in sorted(
                      survey.sound(),
                      key=lambda finding: bool(faults.get(finding.path)))]
        upload = layout.Upload(manifest.image_id, manifest.generation)
        return reader_module.LocalReader(
            info_of(manifest), copies, 0, None, self._settings.io_timeout,
            lambda path, reason, hung: self._report(upload))

    def _commit(self, transfer: transfer_module.Transfer,
                faults: Mapping[str, str]) -> list[str]:
        upload = transfer.upload
        with self._fleet.locked(upload.image_id, 'commit'):
            with self._fleet.survey(upload.image_id,
                                    upload.generation) as survey:
                if survey.current != upload.generation:
                    raise exceptions.ImageNotFound(
                        f'image {upload.image_id} was deleted meanwhile')
                taken = {path for path, finding in survey.findings.items()
                         if finding.manifest is not None or finding.damage}
            lanes = transfer.commit({
                lane.path: removal.aside(
                    lane.copy.attached, upload.image_id,
                    faults.get(lane.path) or 'of an earlier upload')
                for lane in transfer.lanes if lane.path in taken})
        paths = [lane.path for lane in lanes]
        for path in paths:
            LOG.info('Image %(image)s: made a new copy on %(device)s.',
                     {'image': upload.image_id, 'device': path})
        return paths


class _Joined:
    """The blocks of a reader as a source."""

    def __init__(self, blocks: Iterator[bytes], job: work.Job) -> None:
        self._blocks = blocks
        self._job = job
        self._rest = b''

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._blocks, b'')
            self._job.take(len(self._rest))
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
