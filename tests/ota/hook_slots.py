"""Slots with both releases of Glance."""

from __future__ import annotations

import atexit
import functools
from pathlib import Path
import shutil

from easystack_image.ota.slots import building
from easystack_image.ota.slots import slots as slots_module
from tests.functional import processes
from tests.ota import releases
from tests.unit.ota import others

OLD, NEW = '1.0.0', '2.0.0'


class Site:
    """A machine with two slots: Glance 32, and Glance 33.

    :param root: an existing directory, with no link on the way to it
    """

    def __init__(self, root: Path) -> None:
        workshop = releases.Workshop(root)
        # The user of the service runs what is in them.
        slots = slots_module.Slots(root / 'opt', building.Builder(
            processes.script('uv'), others.python(root)))
        self.paths: dict[str, Path] = {}
        for version, number, glance in ((OLD, 1, releases.OLD_GLANCE),
                                        (NEW, 2, releases.NEW_GLANCE)):
            self.paths[version] = slots.build(workshop.archive(
                releases.Content(version, number, glance))).path

    def program(self, version: str, name: str) -> str:
        """Return a program of a slot."""
        return str(self.paths[version] / 'bin' / name)


@functools.cache
def site() -> Site:
    """Return the site of this process, made when first asked for."""
    directory = others.directory('hook-slots-')
    # What is in slots may be written by nobody.
    atexit.register(shutil.rmtree, directory, onerror=_unlock)
    return Site(directory)


def _unlock(function: object, path: str, error: object) -> None:
    """Let the owner remove a slot."""
    for each in (Path(path).parent, Path(path)):
        each.chmod(0o700)
    (shutil.rmtree if Path(path).is_dir() else Path.unlink)(Path(path))
