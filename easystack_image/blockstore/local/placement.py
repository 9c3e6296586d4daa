"""Which devices an image belongs on.

A pure function of the image's id and of the devices.  Each device draws a
number ``u`` between 0 and 1 that depends on the image and on this device
alone, so that a device that comes or goes moves hardly more than the images
that it gains or loses.

1. Within a zone, the least ``-log(u) / weight`` comes first: weighted
   rendezvous hashing (Thaler and Ravishankar, 1996; Schindelhauer and
   Schomaker, 2005).
2. Among zones, that would give the large ones too few images, because
   several are drawn at once.  Pareto order sampling (Rosén, 1997) does not:
   a zone that should hold the share ``p`` of all images scores
   ``v / (1 - v) * (1 - p) / p``, and the least scores win.  Its ``v`` is the
   least draw of its devices, made uniform again: ``1 - exp(-draw * weight)``
   with the weight of the whole zone.  So a zone that wins an image on account
   of a new device stores it on that device.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import math


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A device as placement sees it."""

    #: What the draw depends on, different for each.
    key: str
    zone: str
    weight: float = 1.0


def shares(weights: Sequence[float], picks: int) -> list[float]:
    """Return how often each of several things is to be among ``picks``.

    As their weights are to each other; but nothing is drawn twice, so that
    none has more than 1, and what it cannot take is left to the others.

    :param weights: more than 0
    """
    if picks >= len(weights):
        return [1.0] * len(weights)
    order = sorted(weights, reverse=True)
    full = 0
    while (picks - full) * order[full] >= math.fsum(order[full:]):
        full += 1
    factor = (picks - full) / math.fsum(order[full:])
    least = order[full - 1] if full else math.inf
    return [1.0 if weight >= least else factor * weight
            for weight in weights]


def uniform(image_id: str, key: str) -> float:
    """Return a number between 0 and 1, never either of them."""
    digest = hashlib.blake2b(f'{image_id}/{key}'.encode(),
                             digest_size=8).digest()
    # 53 bits, as many as a float holds.
    return ((int.from_bytes(digest, 'big') >> 11) + 0.5) / (1 << 53)


def rank(image_id: str, candidates: Iterable[Candidate], copies: int,
         used_zones: Collection[str] = ()) -> list[Candidate]:
    """Return all candidates with a weight, best first.

    No zone appears a second time before every zone has appeared once, and so
    on, so that the first ``copies`` of the list lie in as many zones as there
    are.

    :param copies: how many copies the image should have
    :param used_zones: zones that hold a copy already, with repetitions
    """
    zones: dict[str, list[Candidate]] = collections.defaultdict(list)
    for candidate in candidates:
        if candidate.weight > 0:
            zones[candidate.zone].append(candidate)
    if not zones:
        return []
    each, more = divmod(copies, len(zones))
    scores = _score_zones(image_id, zones, more or len(zones))
    uses = collections.Counter(used_zones)
    keys: dict[Candidate, tuple[int, float, str]] = {}
    for zone, members in zones.items():
        for number, candidate in enumerate(_draw(image_id, members, each)):
            keys[candidate] = (uses[zone] + number, scores[zone], zone)
    return sorted(keys, key=lambda candidate: keys[candidate])


def _exponential(image_id: str, candidate: Candidate) -> float:
    """Return what a device draws: less, the larger its weight."""
    return -math.log(uniform(image_id, candidate.key)) / candidate.weight


def _pareto(number: float, share: float) -> float:
    return number / (1 - number) * (1 - share) / share


def _score_zones(image_id: str, zones: Mapping[str, Sequence[Candidate]],
                 picks: int) -> dict[str, float]:
    # Sorted, so that the sum does not depend on the order of the list.
    weights = {zone: math.fsum(sorted(each.weight for each in members))
               for zone, members in zones.items()}
    scores = {}
    for zone, share in zip(zones, shares(list(weights.values()), picks),
                           strict=True):
        draw = min(_exponential(image_id, each) for each in zones[zone])
        number = min(-math.expm1(-draw * weights[zone]), 1 - 2 ** -53)
        # Zones that get every image are still in some order.
        scores[zone] = (_pareto(number, share) if share < 1
                        else number - 1)
    return scores


def _draw(image_id: str, members: Sequence[Candidate],
          picks: int) -> list[Candidate]:
    """Return the devices of a zone, in the order in which they are drawn."""
    if picks <= 1:
        keys = {each: _exponential(image_id, each) for each in members}
    else:
        keys = {each: _pareto(uniform(image_id, each.key), share)
                for each, share in zip(members, shares(
                    [each.weight for each in members], picks), strict=True)}
    return sorted(members, key=lambda each: (keys[each], each.key))
