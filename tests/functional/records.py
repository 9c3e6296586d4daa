"""Images without data, written straight into Glance's database.

A hundred thousand of them through the API would take an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import dataclasses
import datetime
import itertools
from pathlib import Path
from typing import Any
import uuid

from oslo_config import cfg
import sqlalchemy

from tests.functional import noauth

#: When the first image is made; each next one is a second younger.
EPOCH = datetime.datetime(2026, 1, 1)
#: Of ordinary images, in turn.
DISTRIBUTIONS = ('ubuntu', 'centos', 'windows', 'debian')
#: Images of one transaction.
_BATCH = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An image as its rows in the database say it."""

    created_at: datetime.datetime
    name: str | None = None
    status: str = 'active'
    visibility: str = 'public'
    owner: str = noauth.PROJECT
    size: int | None = None
    disk_format: str | None = 'qcow2'
    min_disk: int = 0
    min_ram: int = 0
    protected: bool = False
    os_hidden: bool = False
    tags: tuple[str, ...] = ()
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))


def ordinary(count: int) -> Iterator[Record]:
    """Yield images as a cloud has them."""
    for number in range(count):
        distribution = DISTRIBUTIONS[number % len(DISTRIBUTIONS)]
        yield Record(
            EPOCH + datetime.timedelta(seconds=number),
            name=f'{distribution} server {number}', size=number << 20,
            min_disk=number % 50, min_ram=512, protected=number % 10 == 0,
            tags=(distribution, 'cloud'), properties={
                'os_distro': distribution, 'architecture': 'x86_64',
                'hypervisor_type': 'qemu',
                'description': f'The {distribution} image no. {number}'})


def database_url(config_file: Path) -> str:
    """Return where the Glance of a configuration file keeps its records."""
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt('connection'), group='database')
    conf(['--config-file', str(config_file)])
    return str(conf.database.connection)


class Records:
    """The records of one Glance.

    :param config_file: Glance's; its database must have been laid out
    """

    def __init__(self, config_file: Path) -> None:
        self._engine = sqlalchemy.create_engine(
            database_url(config_file), poolclass=sqlalchemy.NullPool)
        self._tables = sqlalchemy.MetaData()
        self._tables.reflect(self._engine, only=[
            'images', 'image_properties', 'image_tags'])

    def insert(self, images: Iterable[Record]) -> None:
        """Add images."""
        images = iter(images)
        while batch := list(itertools.islice(images, _BATCH)):
            with self._engine.begin() as connection:
                for table, rows in _rows(batch).items():
                    if rows:
                        connection.execute(
                            self._tables.tables[table].insert(), rows)

    def execute(self, statement: str, **parameters: object) -> None:
        """Do anything else to them."""
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement), parameters)


def _rows(images: list[Record]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of some images, by table."""
    rows: dict[str, list[dict[str, Any]]] = {
        'images': [], 'image_properties': [], 'image_tags': []}
    for image in images:
        common = {'created_at': image.created_at,
                  'updated_at': image.created_at, 'deleted': False}
        columns = {field.name: getattr(image, field.name)
                   for field in dataclasses.fields(image)
                   if field.name not in ('tags', 'properties')}
        rows['images'].append(
            common | {'container_format': 'bare'} | columns)
        rows['image_properties'] += [
            common | {'image_id': image.id, 'name': name, 'value': value}
            for name, value in image.properties.items()]
        rows['image_tags'] += [
            common | {'image_id': image.id, 'value': tag}
            for tag in image.tags]
    return rows
