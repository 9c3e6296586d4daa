"""How many more images fit, against trying all ways to place them."""

from __future__ import annotations

import collections
import functools
import itertools

import hypothesis
from hypothesis import strategies
import testtools

from easystack_image.blockstore.local import capacity

TIB = 1 << 40


def tried(zones: list[list[int]], copies: int) -> int:
    """Return how many images of one byte fit, at most."""
    devices = [zone for zone, free in enumerate(zones) for _ in free]
    least, over = divmod(copies, len(zones))
    ways = [way for way in itertools.combinations(range(len(devices)), copies)
            if all(least <= count <= least + bool(over) for count in
                   (collections.Counter(devices[each] for each in way)[zone]
                    for zone in range(len(zones))))]

    @functools.cache
    def most(free: tuple[int, ...]) -> int:
        return max((1 + most(tuple(
            room - (number in way) for number, room in enumerate(free)))
            for way in ways if all(free[number] for number in way)),
            default=0)

    return most(tuple(itertools.chain.from_iterable(zones)))


class FitsTest(testtools.TestCase):

    @hypothesis.settings(max_examples=200, deadline=None)
    @hypothesis.given(
        strategies.lists(strategies.lists(strategies.integers(0, 3),
                                          min_size=1, max_size=2),
                         min_size=1, max_size=3), strategies.integers(1, 3))
    def test_all_ways(self, zones: list[list[int]], copies: int) -> None:
        free = {str(number): rooms for number, rooms in enumerate(zones)}
        self.assertEqual(tried(zones, copies), capacity.fits(free, copies))

    def test_disks(self) -> None:
        for zones, copies, expected in (
                # The smallest of three is full first.
                ([[4], [3], [2]], 3, 2),
                # A fourth takes what the large ones have left.
                ([[4], [4], [4], [4]], 3, 16 / 3),
                ([[9], [1], [1], [1]], 3, 1.5),
                # One zone is large; it has one copy of each all the same.
                ([[9, 9], [2], [2]], 3, 2),
                # Two zones: one of them has two copies, on other devices.
                ([[2, 2], [2, 2]], 3, 8 / 3),
                ([[4], [4]], 3, 0), ([], 1, 0)):
            free = {str(number): [room * TIB for room in rooms]
                    for number, rooms in enumerate(zones)}
            self.assertAlmostEqual(
                expected, capacity.fits(free, copies) / TIB, places=6,
                msg=f'{zones}, {copies} copies')
