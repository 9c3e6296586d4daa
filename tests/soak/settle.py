"""The dust settles, and everything is checked."""

from __future__ import annotations

import time

import requests

from tests.functional import client
from tests.functional import processes
from tests.soak import catalogue
from tests.soak import report as report_module
from tests.soak import world as world_module

#: Seconds within which the healer must have mended everything: it verifies
#: all copies within one and a half minutes.
QUIET = 300


class Reckoning:
    """What is done, and checked, when all devices are back."""

    def __init__(self, world: world_module.World,
                 images: catalogue.Catalogue,
                 report: report_module.Report) -> None:
        self._world = world
        self._images = images
        self._report = report
        self._api = client.Images(world.glance.url)

    def run(self) -> None:
        """Wait until all is quiet; check everything."""
        self._finish_deletions()
        self._await_quiet()
        self._remove_orphans()
        self._check_leftovers()
        known = {image.image_id for image in
                 self._images.all(catalogue.STORED)}
        for disk in self._world.disks:
            for image_id in disk.images() - known:
                self._fail(image_id, f'something of {image_id}, which is '
                                     f'not stored, lies on {disk}')
        for image in self._images.all(catalogue.STORED):
            self._check_stored(image)
        for image in self._images.all(catalogue.DELETED):
            self._check_deleted(image)

    def _fail(self, image_id: str, text: str) -> None:
        self._report.fail(f'{text}\n{self._world.logged(image_id)}')

    def _finish_deletions(self) -> None:
        """Delete what could not be deleted, or not be uploaded, before."""
        for image in self._images.all(catalogue.OPEN, catalogue.DELETING):
            answer = self._api.request('DELETE', f'/images/{image.image_id}')
            if answer.status_code in (204, 404):
                self._images.change(image, catalogue.DELETED)
            elif self._half_deleted(image):
                self._images.change(image, catalogue.HALF)
                self._report.error('delete: record left half deleted')
            else:
                self._fail(image.image_id,
                           f'{image.image_id} cannot be deleted: '
                           f'{answer.status_code} {answer.text[:200]}')

    def _half_deleted(self, image: catalogue.Image) -> bool:
        """Tell whether a worker was killed in the middle of a deletion.

        Glance changes the status in one transaction, and removes the record
        in another (glance.db.ImageRepo.remove).  It refuses to delete what
        is left if it is killed between them; the data is gone.
        """
        return bool(self._report.faults['kill-worker']) and self._api.show(
            image.image_id)['status'] == 'deleted'

    def _await_quiet(self) -> None:
        """Wait until the healer has verified everything once more."""
        begin = time.time()
        self._report.say('all devices are back; waiting for the healer')

        def quiet() -> bool:
            now = self._world.status()
            return now is not None and now.written_at > begin and not (
                now.below_copies or now.waiting or now.failing
                or now.misplaced) and not (
                now.images and now.oldest_verified_at < begin)

        try:
            processes.poll(quiet, 'the healer', QUIET, 1)
        except TimeoutError:
            self._report.fail(
                f'the healer is not through within {QUIET} s: '
                f'{self._world.status()}\n{self._world.healer.tail(30)}')
        self._report.say(f'quiet: {self._world.status()}')

    def _remove_orphans(self) -> None:
        """Have fsck remove orphans; then it must not find anything."""
        # Here workers are killed all the time: that may be many.
        removed = [row for row in self._world.fsck('--remove-orphans',
                                                   '--force', 'copies')
                   if row['kind'] == 'orphan']
        for row in removed:
            self._report.say(f'orphan: {row}')
            self._report.done('orphans removed')
        for row in self._world.fsck():
            if row['severity'] != 'note':
                self._report.fail(f'fsck: {row}')

    def _check_leftovers(self) -> None:
        def left() -> list[str]:
            return [f'{disk}: {name}' for disk in self._world.disks
                    if disk.member for name in disk.leftovers()]

        try:
            processes.poll(lambda: not left(), 'leftovers going', 30, 1)
        except TimeoutError:
            self._report.fail(f'leftovers in tmp: {left()}')

    def _check_stored(self, image: catalogue.Image) -> None:
        """See that an acknowledged image is whole, and no more than that."""
        holders = self._world.holders(image, set(), read=True)
        there = [disk for disk in self._world.disks
                 if disk.place(image.image_id).exists()]
        zones = {disk.zone for disk in holders}
        if not (len(holders) == len(zones) == world_module.COPIES
                and holders == there):
            self._fail(image.image_id,
                       f'{image.image_id}: good copies on '
                       f'{", ".join(map(str, holders))}; something on '
                       f'{", ".join(map(str, there))}')
        try:
            record = self._api.show(image.image_id)
            data = self._api.download(image.image_id)
        except requests.RequestException as error:
            self._fail(image.image_id, str(error))
            return
        if (record['status'], record['size'], record['os_hash_value']) != (
                'active', len(image.data), image.sha512):
            self._fail(image.image_id, f'{image.image_id}: {record}')
        if data != image.data:
            self._fail(image.image_id, f'WRONG BYTES: {image.image_id}')
        self._report.done('checked in the end', len(data))

    def _check_deleted(self, image: catalogue.Image) -> None:
        answer = self._api.request('GET', f'/images/{image.image_id}')
        if answer.status_code != 404:
            self._fail(image.image_id,
                       f'{image.image_id} was deleted, and Glance says '
                       f'{answer.status_code}')
        self._report.done('checked to be gone')
