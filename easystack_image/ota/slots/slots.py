"""The slots of a machine, and the pointer to the one that is in use.

::

    lock                     held while any of this is changed, by uv, too
    slots/VERSION/           a virtual environment, its lock file,
                             release.json, config/ and seal.json
    generations/NUMBER       -> ../slots/VERSION, one for each switch
    current                  -> generations/NUMBER
    trash/                   slots that are being removed
    scratch/                 of a build

``current`` is replaced by a rename, so it is never missing and always leads
to a whole slot; the generation before it says which slot was in use before.
A service is started by the resolved path (:attr:`Slot.path`): started by the
link, it would load modules of the new release into the old process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
import contextlib
import dataclasses
import os
from pathlib import Path
import shutil

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home as homes
from easystack_image.ota.release import archive
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.slots import building
from easystack_image.ota.slots import seal as seals
from easystack_image.ota.slots import using

SLOTS, GENERATIONS, CURRENT, TRASH = (
    'slots', 'generations', 'current', 'trash')
#: The service's user has to get at the slots.
_MODE = 0o755


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot that is whole."""

    #: Where it is, with no link on the way.
    path: Path
    seal: seals.Seal

    @property
    def release(self) -> declarations.Declaration:
        """The release that is installed in it."""
        return self.seal.release

    def verify(self) -> None:
        """Compare all that is in it with what was built.

        :raises easystack_image.exceptions.SlotError: if something differs
        """
        seals.verify(self.path, self.seal)


class Slots:
    """The slots.

    :param directory: is made if need be
    :param builder: builds them
    """

    def __init__(self, directory: Path, builder: building.Builder) -> None:
        self._home = homes.Home(directory, _MODE)
        self._builder = builder

    @property
    def _path(self) -> Path:
        # Built, and started, at this path: it must not lead over a link.
        return self._home.path.resolve()

    def path(self, version: str) -> Path:
        """Return where the slot of a release is, or would be."""
        return self._path / SLOTS / version

    def all(self) -> list[Slot]:
        """Return all whole slots, by the numbers of their releases."""
        found = [self.get(name) for name in self.versions()
                 if self._is_whole(name)]
        return sorted((slot for slot in found if slot is not None),
                      key=lambda slot: slot.release.number)

    def versions(self) -> list[str]:
        """Return the versions of all slots, whole or not."""
        return list(_names(self._path / SLOTS))

    def damaged(self) -> list[str]:
        """Return the versions of the slots whose seals are damaged."""
        return [name for name in self.versions()
                if (self.path(name) / seals.NAME).exists()
                and not self._is_whole(name)]

    def get(self, version: str) -> Slot | None:
        """Return the slot of a release, or None if there is no whole one.

        :raises easystack_image.exceptions.SlotError: if its seal is damaged
        """
        if not declarations.VERSION.fullmatch(version):
            return None
        path = self.path(version)
        seal = seals.read(path)
        return None if seal is None else Slot(path, seal)

    def current(self) -> Slot | None:
        """Return the slot that is in use, or None before the first.

        :raises easystack_image.exceptions.SlotError: if it is not whole
        """
        name = self.current_version()
        if name is None:
            return None
        slot = self.get(name)
        if slot is None:
            raise exceptions.SlotError(
                f'{self._path / CURRENT} leads to {name}, which is not '
                'whole: install the release anew')
        return slot

    def current_version(self) -> str | None:
        """Return the version that is in use, whatever its slot is like."""
        number = self._current_generation()
        return self._generations()[number] if number else None

    def previous(self) -> Slot | None:
        """Return the slot that was in use before, if it is still there."""
        current = self._current_generation()
        names = self._generations()
        for number in sorted(names, reverse=True):
            if number < current and names[number] != names[current]:
                if self._is_whole(names[number]):
                    return self.get(names[number])
        return None

    def build(self, path: Path, digest: str = '') -> Slot:
        """Install the release of an archive in a slot; it may be there.

        A slot of that version that is damaged, or has another release, is
        replaced if nobody uses it.

        :param digest: of the declaration that it must have; '' for any:
            whoever does not know whether it is signed must not start it
        :raises easystack_image.exceptions.OtaError: if it cannot be built,
            is not what it must be, or its place is in use
        :raises OSError: if it cannot be written
        """
        release = archive.inspect(path)
        digest = digest or release.digest
        if digest != release.digest:
            raise exceptions.SlotError(
                f'{path} is another release than was signed: "download" it '
                'again')
        with self._home.locked() as lock:
            found = self._sound(release)
            if found is not None:
                return found
            target = self.path(release.version)
            homes.make(target.parent, _MODE)
            self._make_way(target, release)
            with self._home.scratch() as scratch:
                built, python = self._builder.build(path, digest, target,
                                                    scratch, lock)
            seal = seals.write(target, built, python)
            with self._home.directory(SLOTS) as fd:
                fsio.fsync(fd)
            return Slot(target, seal)

    def _sound(self, release: declarations.Declaration) -> Slot | None:
        """Return the slot of a release, if nothing is wrong with it.

        :raises OSError: if it cannot be protected
        """
        try:
            slot = self.get(release.version)
            if slot is None or slot.release != release:
                return None
            slot.verify()
        except exceptions.SlotError:
            return None
        # Whoever built it may have been killed before that was done, and
        # earlier versions sealed a slot before others could read the seal.
        seals.protect(slot.path, top=False)
        seals.protect(slot.path)
        return slot

    def _make_way(self, path: Path,
                  release: declarations.Declaration) -> None:
        """Take away what is at the path of a slot that is to be built.

        :raises easystack_image.exceptions.SlotError: if it is in use
        """
        if not (path / seals.NAME).exists():
            self._discard(path)
            return
        # One that is damaged can be the current one: it is mended.
        found = self.get(path.name) if self._is_whole(path.name) else None
        kept = found is not None and found.release != release and (
            path.name in self._kept())
        if kept or not self._remove(path.name):
            raise exceptions.SlotError(
                f'{path} has another release of version {path.name}, or is '
                'damaged, and is in use: what runs from it has to end first')

    def _is_whole(self, name: str) -> bool:
        """Tell whether a slot has a seal that can be read."""
        try:
            return self.get(name) is not None
        except exceptions.SlotError:
            return False

    def select(self, slot: Slot) -> None:
        """Make a slot the current one, in one step, durably.

        :raises easystack_image.exceptions.SlotError: if it is gone
        """
        with self._home.locked():
            if self.get(slot.path.name) is None:
                raise exceptions.SlotError(f'{slot.path} is not there')
            number = self._current_generation() + 1
            with self._home.directory(GENERATIONS) as fd:
                fsio.replace_link(f'../{SLOTS}/{slot.path.name}',
                                  str(number), fd)
            with self._home.directory('') as fd:
                fsio.replace_link(f'{GENERATIONS}/{number}', CURRENT, fd)

    def deselect(self) -> None:
        """Have no slot be the current one, as before the first, durably."""
        with self._home.locked(), self._home.directory('') as fd:
            if fsio.exists(CURRENT, fd):
                fsio.unlink(CURRENT, fd)
                fsio.fsync(fd)

    def collect(self, keep: int, needed: Collection[str] = ()) -> list[str]:
        """Remove old slots, and what was left unfinished.

        The current and the previous one stay, and those that are in use.

        :param keep: how many others stay: those that were used last
        :param needed: versions that stay in any case
        :returns: the names of those that were removed
        """
        with self._home.locked():
            kept = {*self._kept(), *needed}
            waiting = [name for name in self._by_use() if name not in kept]
            whole = [name for name in waiting if self._is_whole(name)]
            removed = [name for name in waiting
                       if name not in whole[:keep] and self._remove(name)]
            self._forget(removed)
            self._empty_trash()
            return removed

    def _kept(self) -> set[str]:
        """Return the names of the current slot, and of the previous one."""
        previous = self.previous()
        return {name for name in (
            self.current_version(), previous and previous.path.name) if name}

    def _by_use(self) -> list[str]:
        """Return the names of all slots, those that were used last first."""
        generations = self._generations()
        used = {name: number for number, name in sorted(generations.items())}
        return sorted(_names(self._path / SLOTS), reverse=True,
                      key=lambda name: (used.get(name, 0), name))

    def _remove(self, name: str) -> bool:
        path = self.path(name)
        if using.processes(path):
            return False
        self._discard(path)
        return True

    def _discard(self, path: Path) -> None:
        """Take away what is at the path of a slot, in one step."""
        self._empty_trash()
        if not os.path.lexists(path):
            return
        if path.is_dir():
            # To move a directory takes the right to write to it.
            path.chmod(_MODE)
        with self._home.directory(SLOTS) as slots, \
                self._home.directory(TRASH) as trash:
            fsio.rename(path.name, path.name, slots, trash)
            fsio.fsync(trash)
            fsio.fsync(slots)
        self._empty_trash()

    def _empty_trash(self) -> None:
        trash = self._path / TRASH
        for name in _names(trash):
            seals.unprotect(trash / name)
            shutil.rmtree(trash / name)

    def _forget(self, removed: list[str]) -> None:
        """Remove the generations of slots that are gone."""
        with self._home.directory(GENERATIONS) as fd:
            for number, name in self._generations().items():
                if name in removed:
                    fsio.unlink(str(number), fd)
            fsio.fsync(fd)

    def _current_generation(self) -> int:
        """Return the number of the current generation, 0 for none."""
        try:
            leads_to = os.readlink(self._path / CURRENT)
        except FileNotFoundError:
            return 0
        directory, _, name = leads_to.rpartition('/')
        if directory != GENERATIONS or not name.isdigit() or (
                int(name) not in self._generations()):
            raise exceptions.SlotError(
                f'{self._path / CURRENT} leads to {leads_to}, which is no '
                'generation')
        return int(name)

    def _generations(self) -> dict[int, str]:
        """Return the names of the slots that were in use, by generation."""
        found = {}
        for name in _names(self._path / GENERATIONS):
            if name.isdigit():
                leads_to = os.readlink(self._path / GENERATIONS / name)
                found[int(name)] = leads_to.rpartition('/')[2]
        return found


def _names(directory: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(os.listdir(directory))
