"""How the copies of one image are, all devices taken together."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses

from easystack_image.blockstore import engine
from easystack_image.blockstore.local import census
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import problems

Kind = problems.Kind
Problem = problems.Problem


@dataclasses.dataclass(slots=True)
class Image:
    """What all devices that answered hold of one image."""

    image_id: str
    #: By device path.
    copies: dict[str, census.Seen]
    #: Generations of its uploads that were deleted.
    deleted: set[str]
    #: How many devices did not answer.
    away: int = 0

    def alive(self) -> dict[str, engine.ImageInfo]:
        """Return the sound copies of uploads not deleted, by device path."""
        return {path: seen.info for path, seen in self.copies.items()
                if seen.info is not None and not seen.damage
                and seen.info.generation not in self.deleted}

    def current(self) -> engine.ImageInfo | None:
        """Return the upload that counts; None if no copy of one is left."""
        return max(self.alive().values(), default=None,
                   key=lambda info: (info.created_at, info.generation))

    def read_before(self, since: float) -> bool:
        """Tell whether one of its good copies was not read since then."""
        return any(self.copies[path].verified_at < since
                   for path in self.alive())

    def damaged(self) -> bool:
        """Tell whether there are damaged copies."""
        return any(seen.damage for seen in self.copies.values())

    def spoilt(self) -> bool:
        """Tell whether there is nothing but damaged copies of this image.

        None that a later release can read, nor any of another image.
        """
        return bool(self.copies) and all(
            seen.damage and seen.kind in (Kind.DAMAGED_COPY, Kind.WRONG_SIZE)
            for seen in self.copies.values())

    def written_at(self, generation: str) -> float:
        """Return when the first of an upload's copies was written.

        :param generation: the upload, or '' for damaged copies
        """
        return min(seen.written_at for seen in self.copies.values()
                   if (seen.info is not None
                       and seen.info.generation == generation
                       if generation else seen.damage))


class Judge:
    """Tells what is wrong with images.

    :param usable: paths of the devices that answer; the caller keeps it up
        to date
    """

    def __init__(self, fleet: fleet_module.Fleet, copies: int,
                 min_copies: int, usable: list[str]) -> None:
        self._fleet = fleet
        self._copies = copies
        self._min_copies = min_copies
        self._usable = usable

    def judge(self, image: Image) -> Iterator[Problem]:
        """Yield what is wrong with an image."""
        current = image.current()
        holders = []
        for path, seen in image.copies.items():
            yield from seen.oddities
            if seen.damage:
                yield Problem(seen.kind, seen.damage, path, image.image_id)
            elif seen.info is not None and (
                    current is None
                    or seen.info.generation != current.generation):
                yield Problem(Kind.STALE_COPY,
                              'it is of a deleted or replaced upload', path,
                              image.image_id, seen.info.generation)
            else:
                holders.append(path)
        if current is not None:
            yield from self._agreement(image, current, holders)
            yield from self._number(image, current, holders)
        elif image.damaged():
            yield Problem(Kind.NO_GOOD_COPY, 'none of its copies is good'
                          + where(image), '', image.image_id)

    def _agreement(self, image: Image, current: engine.ImageInfo,
                   holders: list[str]) -> Iterator[Problem]:
        seals: dict[bytes, list[str]] = {}
        for path in holders:
            seals.setdefault(image.copies[path].seal, []).append(path)
        if len(seals) > 1:
            groups = ' / '.join(', '.join(paths) for paths in seals.values())
            yield Problem(
                Kind.CONTRADICTION, 'copies of one upload have different '
                f'manifests: {groups}', '', image.image_id,
                current.generation)

    def _number(self, image: Image, current: engine.ImageInfo,
                holders: list[str]) -> Iterator[Problem]:
        """Look at how many copies there are, and in which zones."""
        count = len(holders)
        # What is away may have the others; that is reported of the device.
        if count + image.away < self._copies:
            yield Problem(
                Kind.BELOW_MIN_COPIES if count < self._min_copies
                else Kind.BELOW_COPIES,
                f'it has {count} of {self._copies} good copies'
                + where(image), '', image.image_id, current.generation)
        elif count > self._copies:
            yield Problem(
                Kind.SURPLUS, f'it has {count} copies, {self._copies} are '
                              f'wanted: {", ".join(holders)}',
                '', image.image_id, current.generation)
        zones = {path: self._zone(path) for path in self._usable
                 if path in holders or not self._fleet.leaving(path)}
        held = {zones[path] for path in holders}
        if len(held) < min(count, len(set(zones.values()))):
            free = ', '.join(sorted(set(zones.values()) - held))
            yield Problem(
                Kind.SHARED_ZONE, f'{count} copies share '
                f'{len(held)} zones ({", ".join(sorted(held))}), while '
                f'others are free ({free})', '', image.image_id,
                current.generation)

    def _zone(self, path: str) -> str:
        identity = self._fleet.devices[path].known
        return identity.zone if identity else ''


def where(image: Image) -> str:
    """Return on how many devices there may be more of an image, if any."""
    return (f' on the devices that are there ({image.away} are not)'
            if image.away else '')
