"""Glance's records of images, read from its database.

Only read, and only the tables ``images`` and ``image_locations``, whose
columns have been the same for all releases of Glance that we work with.  What
refers to our data is kept in a temporary file meanwhile, so that a million
images need no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import importlib
import json
import os
import sqlite3
from typing import Any

from easystack_image import exceptions
from easystack_image.blockstore import address
from easystack_image.blockstore.local import references

#: How many rows are fetched at once.
_ROWS = 5000
_SCHEMA = """
CREATE TABLE reference (
    record TEXT, store_id TEXT, image_id TEXT, generation TEXT, size INTEGER,
    md5 TEXT, algorithm TEXT, multihash TEXT, status TEXT, pending INTEGER,
    claims INTEGER)
"""


class Records:
    """What Glance's database has; see :class:`.references.References`.

    :param url: of the database, as in ``[database] connection``
    :param store: the name of our store in Glance's configuration
    :param key: Glance's ``metadata_encryption_key``, or ''
    :raises easystack_image.exceptions.ConfigurationError: if the URL cannot
        be used here
    """

    def __init__(self, url: str, store: str, key: str = '') -> None:
        self._store = store
        self._decrypt = _decrypter(key)
        self._sql = _import('sqlalchemy')
        self._secrets = [url]
        # Private, in a temporary file, and gone when it is closed.
        self._kept = sqlite3.connect('')
        self._kept.row_factory = sqlite3.Row
        with self._explained('cannot be used'):
            parsed = self._sql.engine.make_url(url)
            self._secrets += [parsed.password] if parsed.password else []
            #: The URL without its password.
            self.name = str(parsed.render_as_string(hide_password=True))
            if parsed.get_backend_name() == 'sqlite':
                _check_file(parsed.database)
            self._engine = self._sql.create_engine(
                parsed, poolclass=self._sql.pool.NullPool)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn errors into ours, and never tell a password."""
        try:
            yield
        except (self._sql.exc.SQLAlchemyError, ImportError,
                ValueError) as error:
            text = str(getattr(error, 'orig', None) or error)
            for secret in self._secrets:
                text = text.replace(secret, '***')
            raise exceptions.RecordsError(
                f"Glance's database {what}: {text}") from None

    def refresh(self) -> None:
        """Read all records anew.

        :raises easystack_image.exceptions.RecordsError: if they cannot be
            read
        """
        self._kept.executescript('DROP TABLE IF EXISTS reference;' + _SCHEMA)
        with self._explained('cannot be read'), \
                self._engine.connect() as connection:
            # In pieces, where the database can do that.
            rows = connection.execution_options(
                yield_per=_ROWS).execute(self._query())
            self._kept.executemany(
                'INSERT INTO reference VALUES (?,?,?,?,?,?,?,?,?,?,?)',
                filter(None, map(self._reference, rows)))
        self._kept.execute('CREATE INDEX by_image ON reference (image_id)')

    def _query(self, image_id: str = '') -> Any:
        """Return the SELECT of all locations, or of those of an image.

        Of one image also what is encrypted, and may be its location.
        """
        sql = self._sql
        image = _table(sql, 'images', 'id', 'status', 'size', 'checksum',
                       'os_hash_algo', 'os_hash_value')
        place = _table(sql, 'image_locations', 'image_id', 'value',
                       'meta_data', 'status')
        pending = sql.or_(place.c.status == 'pending_delete',
                          image.c.status == 'pending_delete')
        # What is to be deleted later counts as deleted, but for its status.
        wanted = sql.or_(
            place.c.status == 'pending_delete',
            sql.and_(place.c.status == 'active',
                     place.c.deleted == sql.false(),
                     sql.or_(image.c.deleted == sql.false(),
                             image.c.status == 'pending_delete')))
        if image_id:
            wanted = sql.and_(wanted, sql.or_(
                image.c.id == image_id, place.c.value.contains(image_id),
                sql.not_(place.c.value.contains(':'))))
        return sql.select(
            image.c.id, image.c.status, image.c.size, image.c.checksum,
            image.c.os_hash_algo, image.c.os_hash_value, place.c.value,
            place.c.meta_data, sql.case((pending, 1), else_=0),
            ).where(image.c.id == place.c.image_id, wanted)

    def _reference(self, row: Any) -> tuple[Any, ...] | None:
        """Return what to keep of a location, or None if it is not ours."""
        (record, status, size, md5, algorithm, multihash, value, about,
         pending) = row
        # What is encrypted has no colon.
        uri = value if ':' in value else self._decrypt(record, value)
        try:
            place = address.Address.parse(uri)
        except ValueError:
            # A location in another kind of store.
            return None
        claims = json.loads(about or '{}').get('store') in (None, self._store)
        return (record, place.store_id, place.image_id, place.generation,
                size, md5, algorithm, multihash, status, pending, claims)

    def of_shard(self, shard: str) -> Mapping[
            str, Sequence[references.Reference]]:
        """See :meth:`.references.References.of_shard`."""
        found: dict[str, list[references.Reference]] = {}
        for row in self._kept.execute(
                'SELECT * FROM reference WHERE image_id >= ? AND '
                'image_id < ?', (shard, shard + 'g')):
            each = _made(row)
            found.setdefault(each.image_id, []).append(each)
        return found

    def to(self, image_id: str) -> Sequence[references.Reference]:
        """See :meth:`.references.References.to`."""
        with self._explained('cannot be read'), \
                self._engine.connect() as connection:
            rows = connection.execute(self._query(image_id)).all()
            found = map(_made, filter(None, map(self._reference, rows)))
            return [each for each in found if each.image_id == image_id]

    def count(self, store_id: str) -> int:
        """See :meth:`.references.References.count`."""
        return int(self._kept.execute(
            'SELECT COUNT(*) FROM reference WHERE store_id = ?',
            (store_id,)).fetchone()[0])

    def status(self, image_id: str) -> str:
        """See :meth:`.references.References.status`."""
        image = _table(self._sql, 'images', 'id', 'status')
        with self._explained('cannot be read'), \
                self._engine.connect() as connection:
            found = connection.execute(
                self._sql.select(image.c.status).where(
                    image.c.id == image_id,
                    image.c.deleted == self._sql.false())).scalar()
        return str(found or '')

    def close(self) -> None:
        """Let go of the temporary file and the database."""
        self._kept.close()
        self._engine.dispose()


def _made(row: Any) -> references.Reference:
    """Return the reference of a row of _SCHEMA."""
    fields: Any = (*row[:9], bool(row[9]), bool(row[10]))
    return references.Reference(*fields)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise exceptions.ConfigurationError(
            f"{name} is needed to read Glance's database ({error}): run this "
            'where Glance is installed, or install '
            'easystack-image[database]') from error


def _table(sql: Any, name: str, *columns: str) -> Any:
    return sql.table(name, sql.column('deleted', sql.Boolean),
                     *(sql.column(each) for each in columns))


def _check_file(path: str | None) -> None:
    """Refuse a file that is not there: SQLite would create it."""
    if path and not os.path.exists(path):
        raise exceptions.RecordsError(
            f"Glance's database cannot be read: there is no file {path}")


def _decrypter(key: str) -> Callable[[str, str], str]:
    """Return what decrypts the location of a record as Glance does."""
    def decrypt(record: str, value: str) -> str:
        if not key:
            raise exceptions.RecordsError(
                f'image {record} has an encrypted location: name the '
                'configuration file in which Glance has its '
                'metadata_encryption_key, with --config-file')
        try:
            return str(_import('glance.common.crypt').urlsafe_decrypt(
                key, value))
        except ValueError as error:
            raise exceptions.RecordsError(
                f'a location of image {record} cannot be decrypted with '
                f'metadata_encryption_key ({error})') from error

    return decrypt
