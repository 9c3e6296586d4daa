"""How many more images fit on devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def fits(free: Mapping[str, Sequence[int]], copies: int) -> int:
    """Return how many more bytes of images fit, in all their copies.

    Each copy of an image is on a device of its own, and no zone has a copy
    more than it must: one, where there are as many zones as copies.  The
    answer is exact for images that are small against the devices.

    :param free: bytes of free room on each device, by zone
    :param copies: how many copies an image has
    """
    zones = [devices for devices in free.values() if devices]
    if sum(map(len, zones)) < copies:
        return 0
    least, over = divmod(copies, len(zones))
    most = least + bool(over)

    def fit(size: int) -> bool:
        """Tell whether images of ``size`` bytes altogether fit.

        A device takes at most one copy of each, a zone at most ``most``.
        """
        rooms = [min(most * size, sum(min(room, size) for room in devices))
                 for devices in zones]
        return (min(rooms) >= least * size
                and sum(rooms) >= copies * size)

    low, high = 0, sum(map(sum, zones)) // copies + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low
