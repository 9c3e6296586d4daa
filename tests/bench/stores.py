"""The stores that are compared, and their configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.bench import results
from tests.functional import server


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of store."""

    #: Its name in the tables, and of its group of options.
    name: str
    #: Copies of each image; 0 for Glance's file driver, which knows none.
    copies: int


KINDS = (
    Kind(results.BASELINE, 0),
    *(Kind(f'block-{copies}', copies) for copies in (1, 2, 3)),
)


def _store(kind: Kind, root: Path) -> server.Store:
    if not kind.copies:
        return server.file_store(kind.name, root / 'images')
    # All that matters for speed stays at its default, but that every copy
    # must be durable: else a slow device might be left behind, and the store
    # would look the faster for it.
    return server.block_store(
        kind.name, server.make_devices(root, kind.copies),
        copies=kind.copies, min_copies=kind.copies)


def make(kind: Kind, root: Path) -> server.Glance:
    """Return a Glance with this store alone, neither prepared nor started.

    :param root: a directory that does not exist yet
    """
    root.mkdir(parents=True)
    return _glance(_store(kind, root), root)


def _glance(store: server.Store, root: Path) -> server.Glance:
    return server.Glance(root, [store],
                         database=server.SQLite(root / 'glance.sqlite'))


def write(store: server.Store, root: Path) -> Path:
    """Write the configuration file of a store that no Glance serves.

    :param root: an existing directory
    """
    glance = _glance(store, root)
    glance.config_file.parent.mkdir()
    glance.configure()
    return glance.config_file


def configure(kind: Kind, root: Path) -> Path:
    """Make a store that no Glance serves; return its configuration file.

    :param root: a directory that does not exist yet
    """
    glance = make(kind, root)
    glance.config_file.parent.mkdir()
    glance.configure()
    glance.init_devices()
    return glance.config_file
