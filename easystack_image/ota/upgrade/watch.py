"""Whether a new release answers as well as the old one did."""

from __future__ import annotations

import dataclasses

from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much worse may a release be.

    :param errors: by how much the share of failed requests may grow
    :param slower: how many times as long the 99th percentile may be
    :param slack: seconds that it may be longer by in any case
    :param requests: fewer are no verdict
    """

    errors: float = 0.01
    slower: float = 2.0
    slack: float = 0.1
    requests: int = 200


class Watch:
    """Compares an instance with the one before it.

    :param origin: what that one did, before the hand-over; None if there is
        nothing to compare with
    """

    def __init__(self, origin: counts.Counts | None, limits: Limits) -> None:
        self._origin = origin
        self._limits = limits

    def observe(self, place: layout.Place, seconds: float) -> counts.Counts:
        """Watch an instance for a while; return what it did meanwhile.

        :raises easystack_image.exceptions.Regression: as soon as it is
            certain
        """
        raise NotImplementedError
