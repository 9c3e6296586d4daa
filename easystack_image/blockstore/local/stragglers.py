"""What devices that were away bring back, and no mark tells of.

* An older upload, nobody's any more, of an image that was uploaded anew in
  the meantime: it would count again if the newer one was deleted while its
  device is away the next time.
* A copy of a deleted upload, with a damaged manifest, so that it cannot be
  told of which.

Where names alone tell that there is nothing of the kind, nothing is read.
"""

from __future__ import annotations

from collections.abc import Collection
import contextlib
import logging
import math
import os

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import removal

LOG = logging.getLogger(__name__)


class Stragglers:
    """Looks for them on the devices of a fleet.

    :param copies: how many copies an image should have
    """

    def __init__(self, fleet: fleet_module.Fleet, copies: int) -> None:
        self._fleet = fleet
        self._copies = copies

    def settle(self, deleted: Collection[str],
               ) -> dict[str, exceptions.DeviceError]:
        """Settle what is left of other uploads.

        :param deleted: ids of images of which some upload was deleted
        :returns: the devices where it could not be done
        """
        try:
            listed = inventory.take(self._fleet)
        except exceptions.ImageUnavailable:
            return {}
        failures = listed.failures
        for image_id, copies in listed.images.items():
            if len(copies) > self._copies:
                failures |= self._retire(image_id)
            elif image_id in deleted:
                failures |= self._put_aside(image_id)
        return failures

    def _retire(self, image_id: str) -> dict[str, exceptions.DeviceError]:
        """Have the older uploads of an image deleted."""
        with self._fleet.survey(image_id) as survey:
            failures = survey.failures
            older = (survey.replaced_by(survey.current)
                     if survey.current is not None else set())
        for generation in older:
            LOG.info('Image %(image)s: its upload %(generation)s, which a '
                     'newer one replaced, is deleted.',
                     {'image': image_id, 'generation': generation})
            try:
                with self._fleet.locked(image_id, 'commit'):
                    removal.Remover(self._fleet).delete(
                        layout.Upload(image_id, generation))
            except exceptions.BlockStoreError as error:
                LOG.warning('Image %(image)s: %(error)s',
                            {'image': image_id, 'error': error})
        return failures

    def _put_aside(self, image_id: str) -> dict[str, exceptions.DeviceError]:
        """Put what is left of a deleted image into quarantine."""
        try:
            # Or what is uploaded meanwhile would be put aside in its place.
            with self._fleet.locked(image_id, 'commit'):
                return self._put_aside_locked(image_id)
        except exceptions.BlockStoreError as error:
            LOG.warning('Image %(image)s: %(error)s',
                        {'image': image_id, 'error': error})
            return {}

    def _put_aside_locked(self, image_id: str,
                          ) -> dict[str, exceptions.DeviceError]:
        with self._fleet.survey(image_id) as survey:
            damaged = [finding.path for finding in survey.findings.values()
                       if finding.damage and finding.manifest is None]
            alone = not (survey.failures or survey.sound()
                         or survey.stale())

        def aside(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                removal.aside(attached, image_id, 'of a deleted image')()

        # How many they are tells nothing: an image may have lost all copies
        # but this one, and its bytes can be rescued by hand.
        if alone and damaged and self._older(image_id, damaged):
            return self._fleet.run(aside, paths=damaged)[1]
        return {}

    def _older(self, image_id: str, paths: Collection[str]) -> bool:
        """Tell whether copies were written before an upload was deleted.

        Then they are that upload's, or an older one's.  What was uploaded
        under the same id since then is not to be touched, be it all damaged.
        """
        def look(device: device_module.Device) -> tuple[float, float]:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return (_deleted_at(attached, image_id),
                        _written_at(attached, image_id)
                        if device.path in paths else 0.0)

        found, failures = self._fleet.run(look)
        return not failures and min(
            deleted for deleted, _ in found.values()) > max(
            written for _, written in found.values())


def _deleted_at(attached: device_module.Attached, image_id: str) -> float:
    """Return when an upload of an image was marked as deleted first."""
    with attached.directory(layout.deleted_directory(image_id)) as marks:
        return min((fsio.status(name, marks).st_mtime
                    for name in os.listdir(marks)
                    if name.startswith(f'{image_id}.')), default=math.inf)


def _written_at(attached: device_module.Attached, image_id: str) -> float:
    """Return when the files of a copy were made, or one was taken away."""
    return fsio.status(layout.copy_directory(image_id), attached.fd).st_mtime
