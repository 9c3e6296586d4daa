"""Slots with both releases of Glance, and a caller of their hooks."""

from __future__ import annotations

import functools
from pathlib import Path
import tempfile

from easystack_image.ota.slots import building
from easystack_image.ota.slots import slots as slots_module
from tests.functional import processes
from tests.ota import releases

OLD, NEW = '1.0.0', '2.0.0'


class Site:
    """A machine with two slots: Glance 32, and Glance 33.

    :param root: an existing directory
    :param phases: that the new release declares
    """

    def __init__(self, root: Path) -> None:
        workshop = releases.Workshop(root)
        self.slots = slots_module.Slots(root / 'opt', building.Builder(
            processes.script('uv'), processes.script('python')))
        self.paths: dict[str, Path] = {}
        for version, number, glance in ((OLD, 1, releases.OLD_GLANCE),
                                        (NEW, 2, releases.NEW_GLANCE)):
            self.paths[version] = self.slots.build(workshop.archive(
                releases.Content(version, number, glance))).path

    def program(self, version: str, name: str) -> str:
        """Return a program of a slot."""
        return str(self.paths[version] / 'bin' / name)


@functools.cache
def site() -> Site:
    """Return the site of this process, made when first asked for."""
    # Goes with the directory of the tests.
    directory = tempfile.mkdtemp(prefix='hook-slots-')
    return Site(Path(directory))
