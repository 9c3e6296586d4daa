"""Where an instance keeps what, and what its process is told."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import os
from pathlib import Path
import re

from easystack_image import fsio

GATE = 'gate'
PRIVATE = 'private.sock'
STATS = 'stats'
FIFO = 'fifo'
#: What the workers shall ask themselves before they serve: see ``warmth``.
WARM = 'warm'

#: Where workers hand the listening socket over: see ``sharing``.
SHARED = 'shared'

#: While this exists, a worker that does not serve yet does not begin to.
LEAVING = 'leaving'

#: The directory of the instance, for the application in it.
DIRECTORY_VARIABLE = 'EASYSTACK_OTA_INSTANCE'
#: The real application, as ``module:attribute``.
APPLICATION_VARIABLE = 'EASYSTACK_OTA_APPLICATION'
#: The number of the worker that answers on the private socket only.
PRIVATE_WORKER_VARIABLE = 'EASYSTACK_OTA_PRIVATE_WORKER'
#: The descriptor of the listening socket, if the holder may lose it.
LISTENER_VARIABLE = 'EASYSTACK_OTA_LISTENER'

#: In the environment of a request that a worker makes of itself: of no user.
WARMING = 'easystack_image.ota.warming'

#: In each answer, with the version of the release.
RELEASE_HEADER = 'X-Easystack-Image-Release'
#: In each answer to ``GET /``: see ``standing``.
STANDING_HEADER = 'X-Easystack-Image-Standing'

#: The first descriptor that is inherited (sd_listen_fds(3)).
FIRST_FD = 3

#: Sockets of the kernel have paths of at most so many bytes (unix(7)).
_LONGEST_PATH = 107


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The directory of one instance.

    :param path: absolute, and short enough for sockets in it
    """

    path: Path

    @property
    def name(self) -> str:
        """The name of the instance."""
        return self.path.name

    def __post_init__(self) -> None:
        longest = self.path / PRIVATE
        if not self.path.is_absolute():
            raise ValueError(f'"{self.path}" is not an absolute path')
        if len(str(longest).encode()) > _LONGEST_PATH:
            raise ValueError(
                f'"{longest}" has more than {_LONGEST_PATH} bytes, too many '
                'for a socket: choose a shorter run directory')

    @property
    def gate(self) -> Path:
        """See the package."""
        return self.path / GATE

    @property
    def private(self) -> Path:
        """See the package."""
        return self.path / PRIVATE

    @property
    def stats(self) -> Path:
        """See the package."""
        return self.path / STATS

    @property
    def fifo(self) -> Path:
        """See the package."""
        return self.path / FIFO

    @property
    def leaving(self) -> Path:
        """See :data:`LEAVING`."""
        return self.path / LEAVING

    @property
    def warm(self) -> Path:
        """See the package."""
        return self.path / WARM

    def shared(self, worker: int) -> Path:
        """See :data:`SHARED`; of each worker."""
        return self.path / f'{SHARED}.{worker}'

    def of_workers(self, name: str) -> Iterator[tuple[int, int]]:
        """Open the file that each worker keeps under a name, to read it.

        The directory is the service's: whoever controls that must not have
        others follow a link, or wait for a pipe.  What is no plain file, or
        gone meanwhile, is left out.

        :param name: of the files, before the number of the worker, which a
            process may follow
        :returns: the number of each worker, and the descriptor
        """
        pattern = re.compile(
            rf'{re.escape(name)}\.([0-9]{{1,9}})(\.[0-9]+)?', re.ASCII)
        try:
            directory = fsio.open_directory(str(self.path))
        except FileNotFoundError:
            return
        try:
            for found in map(pattern.fullmatch, sorted(os.listdir(directory))):
                if found is None:
                    continue
                try:
                    fd = fsio.open_file(found[0], directory)
                except OSError:
                    continue
                try:
                    yield int(found[1]), fd
                finally:
                    os.close(fd)
        finally:
            os.close(directory)


def write(path: Path, text: str, mode: int = fsio.FILE_MODE) -> None:
    """Write a file where the user of the service may write as well.

    Root must not be led elsewhere by that user, who has to read the file:
    it is made anew, given to whoever has the directory, and takes its place
    in one step.

    :raises OSError: if it cannot be written
    """
    temporary = path.with_name(f'.{path.name}.new')
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                         | os.O_CLOEXEC, fsio.FILE_MODE)
    with os.fdopen(descriptor, 'w') as file:
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fchmod(descriptor, mode)
        file.write(text)
    temporary.replace(path)
