"""The tables of Glance's database that the command reads."""

from __future__ import annotations

import json
from pathlib import Path
import sqlite3
from typing import Any

from easystack_image.blockstore import address
from easystack_image.blockstore import engine as engine_module

#: As Glance 32 and 33 make them, without the columns that nobody reads here.
_SCHEMA = """
CREATE TABLE images (
    id VARCHAR(36) NOT NULL PRIMARY KEY, name VARCHAR(255), size BIGINT,
    status VARCHAR(30) NOT NULL, checksum VARCHAR(32),
    os_hash_algo VARCHAR(64), os_hash_value VARCHAR(128),
    created_at DATETIME, deleted_at DATETIME, deleted BOOLEAN NOT NULL);
CREATE TABLE image_locations (
    id INTEGER NOT NULL PRIMARY KEY, image_id VARCHAR(36) NOT NULL,
    value TEXT NOT NULL, meta_data TEXT, status VARCHAR(30) NOT NULL,
    deleted_at DATETIME, deleted BOOLEAN NOT NULL);
"""


class Tables:
    """A database with them, in a file."""

    def __init__(self, path: Path) -> None:
        self.url = f'sqlite:///{path}'
        self._path = path
        self.execute(_SCHEMA)

    def execute(self, script: str) -> None:
        """Run SQL without parameters."""
        with sqlite3.connect(self._path) as database:
            database.executescript(script)
        database.close()

    def add_image(self, image_id: str, **fields: Any) -> None:
        """Add an image without a location."""
        self._insert('images', {'id': image_id, 'status': 'active',
                                'deleted': 0, **fields})

    def add_location(self, image_id: str, uri: str, store: str | None,
                     **fields: Any) -> None:
        """Add a location."""
        about = {} if store is None else {'store': store}
        self._insert('image_locations', {
            'image_id': image_id, 'value': uri,
            'meta_data': json.dumps(about), 'status': 'active',
            'deleted': 0, **fields})

    def _insert(self, table: str, fields: dict[str, Any]) -> None:
        names = ', '.join(fields)
        marks = ', '.join('?' * len(fields))
        with sqlite3.connect(self._path) as database:
            database.execute(
                f'INSERT INTO {table} ({names}) VALUES ({marks})',  # noqa: S608
                list(fields.values()))
        database.close()

    def add(self, store_id: str, info: engine_module.ImageInfo,
            store: str | None = 'copies', **fields: Any) -> None:
        """Add an image with its location, as Glance does after an upload."""
        self.add_image(info.image_id, size=info.size, checksum=info.md5,
                       os_hash_algo=info.algorithm,
                       os_hash_value=info.multihash)
        self.add_location(info.image_id, address.Address(
            store_id, info.image_id, info.generation).uri, store, **fields)
