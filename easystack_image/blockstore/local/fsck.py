"""Checking everything: devices, their trees, all copies, and who needs them.

Nothing is changed, but that copies which were read to the end are stamped
(see verified.py).  The images are taken shard by shard, so that a million of
them fit in memory.  While Glance serves, a shard changes as it is looked at;
so whatever seems wrong is looked at once more, with the lock held under which
uploads appear and deleted images go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
import contextlib
import functools
from typing import TypeVar

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import attempts
from easystack_image.blockstore.local import census
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import judging
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import problems
from easystack_image.blockstore.local import references as references_module
from easystack_image.blockstore.local import repair as repair_module
from easystack_image.blockstore.local import roll
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import sweep
from easystack_image.blockstore.local import verified
from easystack_image.blockstore.local import wording
from easystack_image.blockstore.local import work

T = TypeVar('T')
Kind = problems.Kind
Problem = problems.Problem
Image = judging.Image

#: How many images are looked at again under one lock: uploads wait so long.
BATCH = 64
#: Seconds after which what is being removed is gone, and its record, too.
SETTLE = 5.0


class Checker:
    """Checks the devices of a fleet.

    The fleet need not be that of a started engine: what keeps an engine from
    starting is what this is to find out.
    """

    def __init__(self, fleet: fleet_module.Fleet,
                 settings: settings_module.Settings) -> None:
        self._fleet = fleet
        self._settings = settings
        #: Devices that answer, by path, and what those did that do not.
        self._usable: list[str] = []
        self._judge = judging.Judge(fleet, settings.copies,
                                    settings.min_copies, self._usable)
        self._failures: dict[str, exceptions.DeviceError] = {}
        self._attempts = attempts.Attempts(fleet)
        #: What came of repairs that were tried in vain.
        self._tried: dict[layout.Upload, attempts.Waiting] = {}
        #: How many images were looked at.
        self.images = 0
        #: How many of them lack copies that an absent device may have.
        self.waiting = 0
        #: How many copies were read to the end, and are good.
        self.verified = 0

    def check(self, job: work.Job, since: float | None = None,
              comparison: references_module.Comparison | None = None,
              ) -> Iterator[Problem]:
        """Yield what is wrong, as it is found.

        :param since: read all of every copy that was not read since then, in
            seconds since the epoch; None to read nothing
        :param comparison: with what refers to the images, if that is wanted
        :raises easystack_image.exceptions.Interrupted: when it is to end
        """
        listed = roll.call(self._fleet, self._settings.allow_shared_disk)
        yield from listed.found
        self._usable[:] = listed.usable
        if not self._usable:
            return
        yield from self._trees()
        left = self._leftovers()
        yield from self._new_failures()
        self._tried = self._attempts.waiting(paths=self._usable)
        self._announce(job, since is not None)
        if comparison is not None:
            comparison.begin(self._fleet.store_id or '',
                             len(self._fleet.devices) - len(self._usable))
        for shard in device_module.SHARDS:
            yield from self._shard(shard, job, since, comparison)
        if self.waiting:
            yield Problem(
                Kind.BELOW_COPIES, 'fewer than '
                f'{self._settings.copies} copies on the devices that are '
                f'there: {wording.count(self.waiting, "image")}')
        if left or comparison is not None and comparison.unsettled:
            job.stop.wait(SETTLE)
            job.check()
        # What is being removed is gone by now.
        for path, name in sorted(left and left & self._leftovers()):
            yield Problem(Kind.LEFTOVER, f'{layout.TMP}/{name}', path)
        if comparison is not None:
            yield from self._confirm(comparison, job)

    def _ask(self, function: Callable[[device_module.Attached], T],
             ) -> dict[str, T]:
        """Ask all devices; those that do not answer are asked no more."""
        def ask(device: device_module.Device) -> T:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return function(attached)

        results, failures = self._fleet.run(
            ask, paths=self._usable, patience=inventory.LONG)
        self._failures |= failures
        self._usable[:] = [path for path in self._usable
                           if path not in failures]
        return results

    def _new_failures(self) -> Iterator[Problem]:
        for path, failure in self._failures.items():
            yield Problem(roll.kind_of(failure), failure.reason, path)
        self._failures.clear()

    def _trees(self) -> Iterator[Problem]:
        """Look at all of the devices but the images."""
        for found in self._ask(census.root).values():
            yield from found
        yield from self._new_failures()
        yield from self._marks()

    def _leftovers(self) -> set[tuple[str, str]]:
        """Return what lies in tmp and belongs to no process any more.

        As pairs of a device and a name.
        """
        found, failures = self._fleet.run(
            lambda device: sweep.leftovers(device, self._fleet.store_id),
            paths=self._usable)
        self._failures |= failures
        return {(path, name) for path, names in found.items()
                for name in names}

    def _marks(self) -> Iterator[Problem]:
        """Look for marks of uploads that are not there."""
        marked = self._marked()
        for upload in sorted(marked, key=lambda each: each.name):
            with self._locked(upload.image_id), self._fleet.survey(
                    upload.image_id, upload.generation) as survey:
                gone = not survey.current and not survey.damaged() and (
                    not survey.failures)
                if gone and upload in self._marked():
                    yield Problem(
                        Kind.MARK, f'{layout.REPAIR}/{upload.name}: there '
                        'is no such upload', '', upload.image_id,
                        upload.generation)

    def _marked(self) -> set[layout.Upload]:
        def look(attached: device_module.Attached) -> set[layout.Upload]:
            return {upload for name in census.names(attached, layout.REPAIR)
                    if (upload := layout.upload_of_mark(name))}

        return set().union(*self._ask(look).values())

    def _announce(self, job: work.Job, verify: bool) -> None:
        """Tell how much there is to do."""
        images = size = 0
        for shard in device_module.SHARDS:
            job.check()
            found = self._ask(functools.partial(_measure, shard=shard,
                                                sizes=verify))
            images += len(set().union(*(names for names, _ in
                                        found.values())))
            size += sum(each for _, each in found.values())
        job.progress.begin(images, size)

    def _shard(self, shard: str, job: work.Job, since: float | None,
               comparison: references_module.Comparison | None,
               ) -> Iterator[Problem]:
        """Check the images of one shard."""
        job.check()
        odd, images = self._look(shard, None)
        yield from odd
        yield from self._new_failures()
        suspects = [image_id for image_id, image in images.items()
                    if any(self._judge.judge(image))]
        for again in self._again(suspects):
            for image in again.values():
                yield from self._judge.judge(image)
        self.waiting += sum(0 < len(image.alive()) < self._settings.copies
                            for image in images.values() if image.away)
        if comparison is not None:
            comparison.take(shard, images)
        for image_id, image in images.items():
            if since is not None and image.read_before(since):
                yield from self._verify(image_id, job)
            else:
                yield from self._known(image)
            job.check()
        self.images += len(images)
        job.progress.advance(len(images), 0)

    def _look(self, shard: str, only: Collection[str] | None,
              ) -> tuple[list[Problem], dict[str, Image]]:
        """Look at the images of a shard on all devices."""
        found = self._ask(lambda attached: census.shard(attached, shard,
                                                        only))
        away = len(self._fleet.devices) - len(found)
        odd = [each for view in found.values() for each in view.odd]
        deleted: dict[str, set[str]] = {}
        for upload in set().union(*(view.deleted for view in
                                    found.values())):
            deleted.setdefault(upload.image_id, set()).add(upload.generation)
        images: dict[str, Image] = {}
        names = set(only or ()).union(*(view.copies for view in
                                        found.values()))
        for image_id in sorted(names):
            images[image_id] = Image(
                image_id, {path: view.copies[image_id]
                           for path, view in found.items()
                           if image_id in view.copies},
                deleted.get(image_id, set()), away)
        return odd, images

    def _again(self, suspects: Sequence[str]) -> Iterator[dict[str, Image]]:
        """Look at images of one shard once more, while none can change."""
        for begin in range(0, len(suspects), BATCH):
            batch = suspects[begin:begin + BATCH]
            with self._locked(batch[0]):
                _, images = self._look(layout.shard(batch[0]), batch)
            yield images

    @contextlib.contextmanager
    def _locked(self, image_id: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            # Read-only devices cannot be locked, nor changed by anybody.
            with contextlib.suppress(exceptions.NotEnoughCopies,
                                     exceptions.ImageBusy):
                stack.enter_context(self._fleet.locked(image_id, 'commit'))
            yield

    def _known(self, image: Image) -> Iterator[Problem]:
        """Tell of what a repair found out, where nothing is read now."""
        current = image.current()
        waiting = current and self._tried.get(
            layout.Upload(image.image_id, current.generation))
        if current is None or not waiting:
            return
        alive = {path: image.copies[path].verified_at
                 for path, info in image.alive().items()
                 if info.generation == current.generation}
        faults = self._attempts.faults(waiting.attempt, alive)
        if set(alive) == set(faults):
            for path, fault in faults.items():
                yield Problem(Kind.DAMAGED_COPY, fault, path, image.image_id,
                              current.generation)
            yield Problem(
                Kind.NO_GOOD_COPY, 'a repair found no good copy'
                + judging.where(image), '', image.image_id,
                current.generation)

    def _verify(self, image_id: str, job: work.Job) -> Iterator[Problem]:
        """Read all of every copy of an image."""
        timeout = self._settings.io_timeout
        try:
            with self._fleet.survey(image_id) as survey:
                diagnosis = repair_module.diagnose(survey, timeout, job)
                known = {finding.path for finding in survey.damaged()}
        except exceptions.ImageNotFound:
            # Deleted meanwhile.
            return
        except exceptions.Interrupted:
            raise
        except exceptions.BlockStoreError as error:
            yield Problem(Kind.NO_GOOD_COPY, str(error), '', image_id)
            return
        good = diagnosis.good()
        verified.stamp(self._fleet, image_id, good)
        self.verified += len(good)
        for path, fault in diagnosis.copies.items():
            if fault and path not in known:
                yield Problem(Kind.DAMAGED_COPY, fault, path, image_id,
                              diagnosis.manifest.generation)
        if not good:
            yield Problem(Kind.NO_GOOD_COPY, 'none of its copies is good '
                          'throughout', '', image_id,
                          diagnosis.manifest.generation)
        for path in diagnosis.hung:
            yield Problem(Kind.FAILED_DEVICE, 'did not answer in time', path,
                          image_id)

    def _confirm(self, comparison: references_module.Comparison,
                 job: work.Job) -> Iterator[Problem]:
        """Look again at where images and references disagree.

        With the references read anew, and then the images, so that what is
        uploaded or deleted meanwhile is no problem.
        """
        if not comparison.suspects:
            return
        comparison.references.refresh()
        for shard, suspects in comparison.suspects.items():
            referred = comparison.references.of_shard(shard)
            for images in self._again(sorted(suspects)):
                job.check()
                for image in images.values():
                    yield from comparison.confirm(image, referred)


def _measure(attached: device_module.Attached, shard: str,
             sizes: bool) -> tuple[list[str], int]:
    """Return the images of a shard and, if wanted, their size together."""
    names = census.names(attached, f'{layout.IMAGES}/{shard}')
    size = 0
    for name in names if sizes else ():
        with contextlib.suppress(OSError):
            size += fsio.status(
                f'{layout.IMAGES}/{shard}/{name}/{layout.DATA}',
                attached.fd).st_size
    return names, size
