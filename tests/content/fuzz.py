"""Sends the gate images at random, and sees that it always decides.

``python -m tests.content.fuzz --help`` tells the choices.  Each input is an
image of the corpus, or a good one, with bytes changed, parts doubled, cut or
mixed with those of another, or just noise; and it is judged as each format.
Whatever happens but a decision, too slowly, or with too much memory, ends the
run with the input in a file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import logging
from pathlib import Path
import random
import resource
import sys
import time

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import inspection
from easystack_image.content import rules
from tests.corpus import bad
from tests.corpus import formats

#: Seconds that one decision may take on a machine that is busy.
SLOW = 5.0
#: MiB that the process may grow by in all.
MEMORY = 256
#: Most inputs are short: what decides stands in the first KiB.
SIZES = (64, 512, 4096, 40_000, 66_000, 330_000)
FORMATS = ('raw', 'qcow2', 'iso', 'vmdk', 'vhd', 'vhdx', 'vdi', 'luks',
           'ami')
RULES = rules.Rules(disk_formats=frozenset(FORMATS))
#: Numbers on which parsers stumble.
NUMBERS = (0, 1, 8, 9, 21, 22, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF,
           0x80000000, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


@dataclasses.dataclass
class Tally:
    """What became of the inputs."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0


def seeds() -> list[bytes]:
    """Return what inputs are made of."""
    good = [formats.qcow2(), formats.qcow2(version=2), formats.iso(),
            formats.iso(formats.mbr(formats.partition()), bootable=True),
            formats.disk(formats.PROTECTIVE), formats.vmdk_sparse(),
            formats.vmdk_text('monolithicSparse'), formats.vdi(),
            formats.vhdx()]
    return good + [each.data[:SIZES[-1]] for each in bad.corpus()
                   if each.data]


def mutate(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Return something like ``data``."""
    changed = bytearray(data[:draw.choice(SIZES)])
    for _ in range(draw.choice((0, 1, 1, 2, 4, 16))):
        # Where the fields are, most of the time.
        end = max(1, min(len(changed), draw.choice((128, 600, 1 << 20))))
        at = draw.randrange(end)
        match draw.randrange(6):
            case 0:
                changed[at:at + 1] = bytes([draw.randrange(256)])
            case 1:
                width = draw.choice((1, 2, 4, 8))
                number = draw.choice(NUMBERS) & ((1 << 8 * width) - 1)
                changed[at:at + width] = number.to_bytes(
                    width, draw.choice(('big', 'little')))
            case 2:
                del changed[at:at + draw.choice((1, 8, 512))]
            case 3:
                part = other[at:at + draw.choice((8, 512, 4096))]
                changed[at:at + len(part)] = part
            case 4:
                changed[at:at] = draw.randbytes(draw.choice((1, 8, 64)))
            case 5:
                del changed[at:]
    return bytes(changed)


def judge(data: bytes, disk_format: str, size: int | None) -> bool:
    """Tell whether an image is let in; anything else escapes."""
    declared = declaration.Declaration(disk_format, bare_metal=True)
    try:
        found = inspection.inspect(data, declared, RULES, size)
    except exceptions.ContentError:
        return False
    if found.virtual_size is not None and not (
            0 <= found.virtual_size <= RULES.max_virtual_size):
        raise AssertionError(f'let in with {found.virtual_size} bytes')
    return True


def run(inputs: int, seconds: float, seed: int,
        keep: Callable[[bytes], None]) -> Tally:
    """Judge inputs until there were enough, or time is up.

    :param inputs: how many
    :param seconds: 0 for as long as it takes
    :param keep: is given an input that was no success
    """
    draw = random.Random(seed)
    material = seeds()
    tally = Tally()
    deadline = time.monotonic() + seconds if seconds else float('inf')
    while tally.inputs < inputs and time.monotonic() < deadline:
        data = (draw.randbytes(draw.choice(SIZES[:4]))
                if draw.random() < 0.02 else mutate(
                    draw.choice(material), draw.choice(material), draw))
        disk_format = draw.choice(FORMATS)
        size = draw.choice((None, len(data), 1 << 40))
        began = time.thread_time()
        try:
            tally.refused += not judge(data, disk_format, size)
            taken = time.thread_time() - began
            if taken > SLOW:
                raise AssertionError(f'{taken:.1f} s as {disk_format}')
        except Exception:
            keep(data)
            raise
        tally.slowest = max(tally.slowest, taken)
        tally.inputs += 1
    return tally


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and tell what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--inputs', type=int, default=200_000)
    parser.add_argument('--seconds', type=float, default=0,
                        help='stop after so long')
    parser.add_argument('--seed', type=int, default=None,
                        help='the same one gives the same inputs')
    given = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    # It warns of each bad image.
    logging.disable(logging.CRITICAL)
    print(f'seed {seed}', flush=True)
    before = _memory()
    began = time.monotonic()
    tally = run(given.inputs, given.seconds, seed,
                Path('fuzz-failure.bin').write_bytes)
    grown = _memory() - before
    print(f'{tally.inputs} inputs in {time.monotonic() - began:.0f} s, '
          f'{tally.refused} refused, none crashed; the slowest took '
          f'{tally.slowest * 1000:.0f} ms; memory grew by {grown} MiB')
    if grown > MEMORY:
        sys.exit(f'the process grew by more than {MEMORY} MiB')


def _memory() -> int:
    """Return the most memory that this process had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == '__main__':
    main()
