"""What happens to the store, and in which order: drawn from a seed.

Nothing in here knows what becomes of it: the same seed gives the same acts,
on any machine and however fast it is.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import random

#: How often each kind is in a deck; all of them come before any comes again.
DECK = {
    # Copies of one image are spoilt.
    'flip': 5, 'manifest': 3, 'remove': 3,
    # A device is away, slow or full for a while, or takes no new copies.
    'away': 5, 'slow': 3, 'fill': 2, 'drain': 1,
    # A device is lost for good, and a new one takes its place.
    'replace': 1,
    # Processes are killed, or stand still for a while.
    'kill-worker': 2, 'stop-worker': 2, 'kill-healer': 3,
}
#: Comes once, in the first deck: there is one device to add.
ONCE = 'add'
#: How many acts later the state ends that an act of this kind began.
LASTS = {'away': (2, 8), 'slow': (2, 6), 'fill': (2, 8), 'drain': (4, 9),
         'stop-worker': (1, 3)}


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens.

    Each has all the draws, whether its kind needs them or not, so that what
    follows does not depend on it.
    """

    number: int
    kind: str
    #: Seconds after the one before it.
    pause: float
    #: How many acts later it ends.
    lasts: int
    #: The numbers of all devices; the first that bears it is hit.
    order: tuple[int, ...]
    #: Which image, and where in it: 0 to 1.
    image: float
    place: float
    #: How many copies, at most.
    copies: int
    #: How long a slow device takes for each call, in seconds.
    delay: float


def acts(seed: int, devices: int, patience: float) -> Iterator[Act]:
    """Yield what happens, without end.

    :param devices: how many there are, those to be added included
    :param patience: seconds after which a device counts as one that hangs
    """
    draw = random.Random(f'{seed}/schedule')
    number = 0
    while True:
        deck = [kind for kind, count in DECK.items() for _ in range(count)]
        if number == 0:
            deck.append(ONCE)
        draw.shuffle(deck)
        for kind in deck:
            number += 1
            yield _act(draw, number, kind, devices, patience)


def _act(draw: random.Random, number: int, kind: str, devices: int,
         patience: float) -> Act:
    pause = draw.uniform(0.3, 2.5)
    length = draw.random()
    least, most = LASTS.get(kind, (0, 0))
    order = list(range(devices))
    draw.shuffle(order)
    return Act(number, kind, pause, least + int(length * (most + 1 - least)),
               tuple(order), draw.random(), draw.random(),
               draw.choice((1, 1, 2)),
               # Noticed, or so slow that others have to stand in.
               draw.choice((0.05, 0.2, 1.5 * patience)))
