"""Restoring blocks that are bad where Ceph reads them.

First from another copy, if one is good there: we know by the checksum, and
write it anew, for all copies.  What is good nowhere is left to Ceph, which is
asked to repair the placement groups that hold it, and waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
import dataclasses
import functools
import logging

import crc32c

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import pool
from easystack_image.blockstore.ceph import replicas
from easystack_image.blockstore.local import checksums
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import timed
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

BLOCK_SIZE = manifest_module.BLOCK_SIZE
#: Seconds between looks at how far Ceph is.
LOOK = 1.0
#: What placement groups do that are being repaired.
_UNDER_WAY = ('scrubbing', 'repair', 'recover', 'degraded')


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A block, and where it lies."""

    block: int
    #: The object, and where in it the block begins and how long it is, in
    #: bytes.
    name: str
    offset: int
    length: int
    place: pool.Placement

    def __str__(self) -> str:
        osds = ', '.join(f'osd.{osd}' for osd in self.place.acting)
        return (f'{self.block} (object {self.name}, placement group '
                f'{self.place.pgid} on {osds})')


def parts(found: images.Found, blocks: Iterable[int]) -> list[Part]:
    """Return where blocks of an image of ours lie."""
    manifest = _manifest(found)
    cluster = found.cluster

    def describe() -> tuple[str, int]:
        return found.image.block_name_prefix(), found.image.stat()['obj_size']

    prefix, size = cluster.run(describe)
    named = {}
    for block in blocks:
        number, offset = divmod(block * BLOCK_SIZE, size)
        named[block] = f'{prefix}.{number:016x}', offset
    names = list(dict.fromkeys(name for name, _ in named.values()))
    places = dict(zip(names, pool.places(cluster, names), strict=True))
    return [Part(block, name, offset, manifest.block_length(block),
                 places[name]) for block, (name, offset) in named.items()]


def _manifest(found: images.Found) -> manifest_module.Manifest:
    if found.manifest is None:
        raise exceptions.DamagedImage(
            f'image {found.upload.image_id}: nothing tells what its blocks '
            'must be')
    return found.manifest


def good(manifest: manifest_module.Manifest, block: int,
         data: bytes | memoryview) -> bool:
    """Tell whether bytes are what a block must be."""
    return (len(data) == manifest.block_length(block)
            and crc32c.crc32c(data) == manifest.checksum(block))


def other_copy(found: images.Found, part: Part,
               copies: replicas.Replicas | None) -> bytes | None:
    """Return what a block must be, from whichever copy; None: from none."""
    manifest = _manifest(found)
    zeros = checksums.zeros(part.length)
    if good(manifest, part.block, zeros):
        return zeros
    if copies is None:
        return None
    right = functools.partial(good, manifest, part.block)
    return found.cluster.run(lambda: copies.find(
        part.name, part.offset, part.length, right))


def rescue(found: images.Found, block: int) -> bytes | None:
    """Return a block that is bad where Ceph reads it, from another copy.

    :returns: None if there is no good one, or it cannot be had
    """
    copies = _connect(found.cluster)
    try:
        part, = parts(found, [block])
        return other_copy(found, part, copies)
    except (exceptions.DeviceError, bindings.rbd().Error) as error:
        LOG.warning('Image %(image)s: other copies of block %(block)d cannot '
                    'be read: %(error)s',
                    {'image': found.upload.image_id, 'block': block,
                     'error': error})
        return None
    finally:
        _disconnect(found.cluster, copies)


def restore(found: images.Found, bad: Sequence[Part],
            job: work.Job) -> list[Part]:
    """Write blocks anew that are good in another copy; return the others."""
    left = []
    cluster = found.cluster
    copies = _connect(cluster)
    try:
        if copies is not None:
            names = [part.name for part in bad]
            cluster.run(lambda: copies.nudge(names))
        for part in bad:
            job.check()
            if not _restore(found, part, copies):
                left.append(part)
    finally:
        _disconnect(cluster, copies)
    return left


def _restore(found: images.Found, part: Part,
             copies: replicas.Replicas | None) -> bool:
    """Write a block anew that is good in another copy, if one is."""
    cluster, image_id = found.cluster, found.upload.image_id
    try:
        data = other_copy(found, part, copies)
        if data is None:
            return False
        cluster.run(lambda: replicas.restore(
            cluster, image_id, part.name, part.offset, data))
    except bindings.rbd().ImageNotFound as error:
        raise images.absence(image_id) from error
    except exceptions.DeviceError as error:
        LOG.error('Image %(image)s: block %(part)s cannot be restored: '
                  '%(error)s',
                  {'image': image_id, 'part': part, 'error': error})
        return False
    return True


def _connect(cluster: connection.Cluster) -> replicas.Replicas | None:
    try:
        return cluster.run(lambda: replicas.Replicas(cluster).open(),
                           discard=replicas.Replicas.close)
    except (OSError, AttributeError, exceptions.DeviceError) as error:
        LOG.warning('Other copies than those that Ceph reads first cannot '
                    'be read: %s', error)
        return None


def _disconnect(cluster: connection.Cluster,
                copies: replicas.Replicas | None) -> None:
    if copies is not None:
        cluster.run(copies.close)


def still_bad(found: images.Found, bad: Iterable[Part]) -> list[Part]:
    """Read blocks again; return those that are bad."""
    manifest = _manifest(found)

    def read(part: Part) -> bytes:
        data: bytes = found.image.read(part.block * BLOCK_SIZE, part.length)
        return data

    return [part for part in bad if not good(
        manifest, part.block,
        found.cluster.run(functools.partial(read, part)))]


def ask_ceph(cluster: connection.Cluster, groups: Collection[str],
             job: work.Job) -> str:
    """Have Ceph compare and repair placement groups, and wait for it.

    :returns: '' if it did, else why that is not known
    """
    try:
        before = pool.scrubs(cluster, groups)
        for group in sorted(groups):
            pool.ask(cluster, 'pg repair', pgid=group)
        return _wait(cluster, before, job)
    except exceptions.DeviceError as error:
        return (f'Ceph could not be asked to compare its copies ({error}): '
                'run ' + ', '.join(f'"ceph pg repair {each}"'
                                   for each in sorted(groups))
                + ', and scrub the image again after that')


def _wait(cluster: connection.Cluster, before: dict[str, tuple[str, str]],
          job: work.Job) -> str:
    """Wait until placement groups were compared; as :func:`ask_ceph`."""
    waiting = set(before)

    def done(seconds: float) -> bool:
        job.stop.wait(min(seconds, LOOK))
        job.check()
        for group, (stamp, state) in pool.scrubs(cluster, waiting).items():
            if stamp != before[group][0] and not any(
                    word in state for word in _UNDER_WAY):
                waiting.discard(group)
        return not waiting

    if timed.Patience(cluster.limit).wait(done):
        return ''
    return (f'Ceph has not ended the repair of {", ".join(sorted(waiting))} '
            f'within {cluster.limit:g} s: scrub the image again later')

