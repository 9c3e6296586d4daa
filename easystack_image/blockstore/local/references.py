"""What refers to the images from outside, compared with what is stored.

The engine does not know who that is; Glance, for instance, has a row with a
URI for each image in its database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import time
from typing import Protocol

from easystack_image.blockstore import engine
from easystack_image.blockstore.local import judging
from easystack_image.blockstore.local import problems

Kind = problems.Kind
Problem = problems.Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A record that refers to the data of one upload."""

    #: The id of the record; that of the image, as a rule.
    record: str
    #: The set, the image and the upload that it refers to.
    store_id: str
    image_id: str
    generation: str
    #: What the record says of the data, as far as it does.
    size: int | None = None
    md5: str | None = None
    algorithm: str | None = None
    multihash: str | None = None
    #: What the record says of itself.
    status: str = 'active'
    #: Whether the data is to be deleted, and may be gone already.
    pending: bool = False
    #: Whether the record says that the data is in this very store.
    claims: bool = True


class References(Protocol):
    """Where references are looked up."""

    def refresh(self) -> None:
        """Read all of them anew.

        :raises easystack_image.exceptions.EasystackImageError: if they
            cannot be read
        """

    def of_shard(self, shard: str) -> Mapping[str, Sequence[Reference]]:
        """Return references by the id of the image they refer to.

        As they were at the last :meth:`refresh`.

        :param shard: the first two digits of the images' ids
        """

    def to(self, image_id: str) -> Sequence[Reference]:
        """Return references to an image, as they are at this moment.

        Not as they were at the last :meth:`refresh`.

        :raises easystack_image.exceptions.EasystackImageError: if they
            cannot be read
        """

    def count(self, store_id: str) -> int:
        """Return how many of them refer to a set of devices."""

    def status(self, image_id: str) -> str:
        """Return the status of the record with this id, '' if there is none.

        Whether or not it refers to anything.
        """


class Comparison:
    """Compares images with the references to them.

    :param grace: seconds for which data may be without a reference, because
        its upload is still under way
    """

    def __init__(self, references: References, grace: float) -> None:
        self.references = references
        self._grace = grace
        self._store_id = ''
        self._away = 0
        #: By shard and image id: where they seemed to disagree.
        self.suspects: dict[str, dict[str, set[tuple[Kind, str]]]] = {}
        #: Whether some of that may be a deletion under way.
        self.unsettled = False

    def begin(self, store_id: str, away: int) -> None:
        """Read the references.

        :param store_id: the set of devices
        :param away: how many of its devices cannot be asked
        """
        self._store_id = store_id
        self._away = away
        self.suspects = {}
        self.references.refresh()

    def take(self, shard: str,
             images: Mapping[str, judging.Image]) -> None:
        """Note which images of a shard are to be looked at again."""
        referred = self.references.of_shard(shard)
        for image_id in sorted({*images, *referred}):
            image = images.get(image_id) or judging.Image(
                image_id, {}, set(), self._away)
            found = {(problem.kind, problem.generation) for problem in
                     self._compare(image, referred.get(image_id, ()))}
            if found:
                self.suspects.setdefault(shard, {})[image_id] = found
                self.unsettled |= any(kind is not Kind.ORPHAN
                                      for kind, _ in found)

    def confirm(self, image: judging.Image,
                referred: Mapping[str, Sequence[Reference]],
                ) -> Iterator[Problem]:
        """Yield where an image and its references still disagree."""
        before = self.suspects[image.image_id[:2]][image.image_id]
        for problem in self._compare(image, referred.get(image.image_id,
                                                         ())):
            if (problem.kind, problem.generation) in before:
                yield problem

    def _compare(self, image: judging.Image,
                references: Sequence[Reference]) -> Iterator[Problem]:
        """Yield where an image and the references to it disagree."""
        ours = [each for each in references
                if each.store_id == self._store_id]
        for each in references:
            if (each.store_id != self._store_id and each.claims
                    and not each.pending):
                yield Problem(
                    Kind.OTHER_SET, f'{_who(each)} refers to another set of '
                    f'devices, {each.store_id}', '', image.image_id,
                    each.generation)
        current = image.current()
        if not ours and (current is not None or image.spoilt()):
            yield from self._orphan(image, current)
        for each in ours:
            if not each.pending:
                yield from _check(image, each)
        yield from _shared(ours)

    def _orphan(self, image: judging.Image,
                current: engine.ImageInfo | None) -> Iterator[Problem]:
        """Yield what no record refers to, if it is old enough.

        :param current: the upload, or None if all its copies are damaged
        """
        generation = current.generation if current else ''
        written_at = image.written_at(generation)
        if written_at > time.time() - self._grace:
            # Its upload may be under way: the record follows the data.
            return
        status = self.references.status(image.image_id)
        about = (f'the record of this id is {status!r} and does not refer '
                 'to it' if status else 'there is no record of this id')
        day = time.strftime('%Y-%m-%d', time.gmtime(written_at))
        what = f'{current.size} bytes' if current else 'damaged copies'
        yield Problem(
            Kind.ORPHAN, f'{what} of {day} that no record refers to: {about}',
            '', image.image_id, generation)


def _who(reference: Reference) -> str:
    return f'the record {reference.record} ({reference.status})'


def _check(image: judging.Image, reference: Reference) -> Iterator[Problem]:
    """Compare an image with one record."""
    alive = {info.generation: info for info in image.alive().values()}
    info = alive.get(reference.generation)
    if info is not None:
        differences = [*_differences(info, reference)]
        if differences:
            yield Problem(
                Kind.DIFFERENT, f'{_who(reference)} says otherwise: '
                + '; '.join(differences), '', image.image_id,
                info.generation)
    elif alive:
        yield Problem(
            Kind.OTHER_UPLOAD, f'{_who(reference)} refers to the upload '
            f'{reference.generation}, but {", ".join(alive)} is stored', '',
            image.image_id, reference.generation)
    elif not image.damaged():
        kind, message = Kind.LOST, 'no device has it'
        if reference.generation in image.deleted:
            message = 'it was deleted from the store'
        elif image.away:
            kind = Kind.OUT_OF_REACH
            message = f'no device that is there has it ({image.away} are not)'
        yield Problem(kind, f'{_who(reference)} refers to it, but {message}',
                      '', image.image_id, reference.generation)


def _differences(info: engine.ImageInfo,
                 reference: Reference) -> Iterator[str]:
    if reference.size is not None and reference.size != info.size:
        yield f'size {reference.size}, stored are {info.size}'
    if reference.md5 and reference.md5.lower() != info.md5:
        yield f'md5 {reference.md5}, stored is {info.md5}'
    if (reference.multihash and reference.algorithm == info.algorithm
            and reference.multihash.lower() != info.multihash):
        yield (f'{info.algorithm} {reference.multihash}, stored is '
               f'{info.multihash}')


def _shared(references: Sequence[Reference]) -> Iterator[Problem]:
    records: dict[str, list[Reference]] = {}
    for each in references:
        records.setdefault(each.generation, []).append(each)
    for generation, sharing in records.items():
        names = sorted({each.record for each in sharing})
        if len(names) > 1:
            yield Problem(
                Kind.SHARED_DATA, 'several records refer to the same data: '
                + ', '.join(names), '', sharing[0].image_id, generation)
