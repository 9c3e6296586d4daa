"""Sources and sinks with a will of their own."""

from __future__ import annotations

from collections.abc import Callable
import random
import threading


def noise(size: int, seed: int = 1) -> bytes:
    """Return ``size`` bytes that look random and are always the same."""
    return random.Random(seed).randbytes(size)


class Source:
    """Delivers bytes, and notes how it was asked for them.

    :param data: what it delivers
    :param most: the most that it gives at once, in bytes
    :param at: where it stops to call ``action``, in bytes
    :param action: called once, from within ``read``; may raise
    """

    def __init__(self, data: bytes, most: int | None = None, at: int = 0,
                 action: Callable[[], object] | None = None) -> None:
        self.position = 0
        #: What ``read`` was asked for, each time.
        self.sizes: list[int] = []
        #: The threads that called ``read``.
        self.threads: set[int] = set()
        #: How often it was read after it had said that it is at its end.
        self.reads_after_end = 0
        self._data = data
        self._most = most
        self._at = at
        self._action = action
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        self.sizes.append(size)
        self.threads.add(threading.get_ident())
        self.reads_after_end += self._ended
        if self._action is not None and self.position >= self._at:
            action, self._action = self._action, None
            action()
        count = min(size, self._most or size)
        if self._action is not None:
            count = min(count, self._at - self.position)
        piece = self._data[self.position:self.position + count]
        self.position += len(piece)
        self._ended = not piece
        return piece


class Greedy:
    """Gives one byte more than it was asked for, from ``at`` bytes on."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, and one more."""
        more = int(self._position >= self._at)
        piece = self._data[self._position:self._position + size + more]
        self._position += len(piece)
        return piece


def untouchable(size: int, /) -> bytes:
    """Refuse to be read."""
    raise AssertionError(f'the source was asked for {size} bytes')


class Untouchable:
    """A source that must not be read."""

    read = staticmethod(untouchable)


class Sink:
    """Keeps what it is given.

    :param at: where to call ``action``, in bytes
    :param action: called once, before the byte at ``at`` is taken; may raise
    """

    def __init__(self, at: int = 0,
                 action: Callable[[], object] | None = None) -> None:
        self.data = bytearray()
        #: The buffers' types.
        self.types: set[type] = set()
        self._at = at
        self._action = action

    def __call__(self, piece: memoryview) -> None:
        self.types.add(type(piece))
        if self._action is not None and (
                len(self.data) + len(piece) > self._at):
            action, self._action = self._action, None
            action()
        self.data += piece
