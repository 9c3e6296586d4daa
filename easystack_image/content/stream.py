"""Image bytes that are judged while they pass by."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import inspection
from easystack_image.content import rules as rules_module

#: How much is taken at once from a source that is only looked at, in bytes.
_PIECE = 1 << 16


class Source(Protocol):
    """What bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none only at the end."""


class Stream:
    """A source whose beginning is judged before anybody else sees it.

    Behind its first MiB it costs next to nothing: each call goes to the
    source, and its result back, as the same object.

    :param source: where the bytes come from
    :param rules: which images are let in
    :param size: how many bytes will come, None if that is not known
    """

    def __init__(self, source: Source, rules: rules_module.Rules,
                 size: int | None = None) -> None:
        self._source = source
        self._rules = rules
        self._size = size
        self._head = b''
        self._position = 0
        self._passed = 0
        self._limit: int | None = None
        self._expected: tuple[str, str] | None = None
        self._digest: Any = None
        self._ended = False

    def look(self) -> None:
        """Read the beginning, for :meth:`judge`.

        It takes as long as the source takes to send it.
        """
        pieces = []
        # What lies behind the end may never come.
        missing = inspection.HEAD_SIZE if self._size is None else min(
            inspection.HEAD_SIZE, self._size)
        while missing:
            piece = self._source.read(min(missing, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        self._head = b''.join(pieces)

    def judge(self, declared: declaration.Declaration) -> None:
        """Judge the image by its beginning.

        :raises easystack_image.exceptions.ContentError: if it is refused
        """
        inspection.inspect(self._head, declared, self._rules, self._size)
        # Where nothing was to come, nothing is let in.
        self._limit = inspection.limit(
            declared, self._rules) if self._head else 0
        self._expected = declared.expected_hash
        if self._expected:
            self._digest = hashlib.new(self._expected[0],
                                       usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most ``size`` of them.

        :raises easystack_image.exceptions.ContentTooLarge: as soon as there
            are more than allowed
        :raises easystack_image.exceptions.ChecksumMismatch: at the end, in
            place of the last, empty result
        """
        data = self._next(size)
        self._passed += len(data)
        if self._limit is not None and self._passed > self._limit:
            raise exceptions.ContentTooLarge(
                f'The image has more than the {self._limit} bytes that are '
                'allowed, by min_disk or in general')
        if self._expected:
            self._check_digest(data, size)
        return data

    def _next(self, size: int) -> bytes:
        if not self._head:
            return self._source.read(size)
        start = self._position
        end = len(self._head) if size < 0 else start + size
        data = self._head[start:end]
        self._position = start + len(data)
        if end >= len(self._head):
            self._head = b''
            # Who gets fewer bytes than he asked for may take it for the end.
            rest = -1 if size < 0 else size - len(data)
            data += self._source.read(rest) if rest else b''
        return data

    def _check_digest(self, data: bytes, size: int) -> None:
        if data:
            self._digest.update(data)
        complete = size != 0 and not data or (
            self._size is not None and self._passed >= self._size) or size < 0
        if not complete or self._ended or not self._expected:
            return
        self._ended = True
        algorithm, expected = self._expected
        found = self._digest.hexdigest()
        if found != expected:
            raise exceptions.ChecksumMismatch(
                f'The {algorithm} of the data is {found}; announced was '
                f'{expected}')
