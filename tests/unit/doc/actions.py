"""What users and bad luck do, between the commands of the guide.

``python -m tests.unit.doc.actions ACTION ...``, with ``GLANCE_CONF`` in the
environment.
"""

from __future__ import annotations

import configparser
import io
import os
from pathlib import Path
import sys
import time

from easystack_image.blockstore.local import device
from tests.unit.cmd import base
from tests.unit.cmd import glance_tables
from tests.unit.store import base as store_base


def devices() -> list[Path]:
    """Return the devices of the configuration that are prepared."""
    conf = configparser.ConfigParser(interpolation=None)
    conf.read(os.environ['GLANCE_CONF'])
    paths = [Path(path) for section in conf.values()
             for path in section.get('easystack_block_devices', '').split(',')
             if path]
    return [path for path in paths if (path / device.IDENTITY).exists()]


def store(*image_ids: str) -> None:
    """Upload images of 3 MiB."""
    engine = base.local_engine(devices())
    for image_id in image_ids:
        # The same in each run: the guide shows its digests.
        data = store_base.content(3 * store_base.MIB, int(image_id[:8], 16))
        engine.write(image_id, io.BytesIO(data), len(data))
    engine.close()


def damage(image_id: str, *paths: str) -> None:
    """Change a byte of the copies of an image on some devices."""
    for path in paths:
        place = Path(path, 'images', image_id[:2], image_id, 'data')
        data = bytearray(place.read_bytes())
        data[1_500_000] ^= 1
        place.write_bytes(data)


def find(image_id: str) -> None:
    """Have a user find what is wrong with an image: it is marked."""
    engine = base.local_engine(devices())
    engine.request_repair(image_id)
    engine.close()


def record(*image_ids: str) -> None:
    """Give Glance a database in which only these images are."""
    path = Path(os.environ['GLANCE_CONF'])
    tables = glance_tables.Tables(path.with_name('glance.sqlite'))
    engine = base.local_engine(devices())
    for image_id in image_ids:
        tables.add(engine.store_id, engine.info(image_id))
    engine.close()
    with path.open('a') as file:
        file.write(f'[database]\nconnection = {tables.url}\n')


def age(image_id: str) -> None:
    """Have an image be stored the day before yesterday."""
    then = time.time() - 2 * 86400
    for path in devices():
        place = path / 'images' / image_id[:2] / image_id
        if place.exists():
            os.utime(place, (then, then))


if __name__ == '__main__':
    {'store': store, 'damage': damage, 'find': find,
     'record': record, 'age': age}[sys.argv[1]](
        *sys.argv[2:])
