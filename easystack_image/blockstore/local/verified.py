"""When a copy was verified last.

That is the modification time of its manifest: set when the copy is written
(from verified bytes, and read back by no one yet), and again whenever all of
it was read and found good.  So it costs no file, moves with the copy and goes
with it; ``cp -p`` and rsync keep it.  Losing it to a crash means that the
copy is verified once more.
"""

from __future__ import annotations

from collections.abc import Collection
import contextlib
import time

from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout


def stamp(fleet: fleet_module.Fleet, image_id: str,
          paths: Collection[str]) -> None:
    """Note that copies of an image were read and found good just now.

    Only a hint: where it cannot be noted, the copy is read again.

    :param paths: of their devices
    """
    now = time.time()

    def touch(device: device_module.Device) -> None:
        with contextlib.closing(device.attach(fleet.store_id)) as attached, \
                attached.directory(
                    layout.copy_directory(image_id)) as directory:
            fsio.touch(layout.MANIFEST, now, directory)

    fleet.run(touch, paths=paths)
