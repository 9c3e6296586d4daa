"""What the instances of the holder print: bounded, as nobody else does it.

::

    logs/NAME.log      of an instance, also of one that has ended
    logs/NAME.log.old  what stood there before

The run directory may be in memory, and Glance's log is here.
"""

from __future__ import annotations

from collections.abc import Container
import contextlib
import logging
import os
from pathlib import Path
from typing import BinaryIO

LOG = logging.getLogger(__name__)

LOGS = 'logs'
#: Bytes of a log after which a new one is begun.
LIMIT = 8 << 20
#: Of how many instances that have ended the logs stay: they may say why.
ENDED = 3
_LOG, _OLD = '.log', '.old'


class Logs:
    """The directory.

    :param path: exists
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, name: str) -> BinaryIO:
        """Open the log of an instance, for it to write to.

        :raises OSError: if that fails
        """
        return open(self._of(name), 'ab', opener=_privately)

    def bound(self, name: str) -> None:
        """Begin the log of an instance anew if it is long.

        Its processes, which a holder before this one may have started, go on
        in the same file: each writes at what is the end then.  What comes
        while it is copied may be lost.  Of one that grew when nobody bounded
        it, the end is kept.
        """
        path = self._of(name)
        try:
            if path.stat().st_size <= LIMIT:
                return
            try:
                _copy(path, _old(path))
            except OSError:
                _old(path).unlink(missing_ok=True)
                raise
            finally:
                # Even if there is no room for the copy: above all then.
                os.truncate(path, 0)
        except FileNotFoundError:
            # Somebody has removed it.
            return
        except OSError as error:
            LOG.error('%s: %s', path, error)

    def ended(self, name: str, others: Container[str]) -> None:
        """Remove the logs of those that ended before the last few.

        :param name: of the one that has ended now
        :param others: the names of those that have not
        """
        with contextlib.suppress(OSError):
            os.utime(self._of(name))
        ended = [path for path in self._path.glob(f'*{_LOG}')
                 if path.name.removesuffix(_LOG) not in others]
        for path in sorted(ended, key=_age)[ENDED:]:
            for each in (path, _old(path)):
                with contextlib.suppress(OSError):
                    each.unlink()

    def _of(self, name: str) -> Path:
        return self._path / f'{name}{_LOG}'


def _old(path: Path) -> Path:
    return path.with_name(path.name + _OLD)


def _age(path: Path) -> float:
    """Return what is the higher, the longer ago a file was written."""
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _copy(path: Path, to: Path) -> None:
    with (open(path, 'rb') as source,
          open(to, 'wb', opener=_privately) as target):
        source.seek(max(0, os.fstat(source.fileno()).st_size - LIMIT))
        target.write(source.read(LIMIT))


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
