"""What the cluster says of its pool, and of where an image lies.

All by commands of its monitors that ``mon 'profile rbd'`` allows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import json
from typing import Any

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import settings as settings_module

#: What stands in an acting set for an OSD that is not there.
NOBODY = 0x7fffffff
#: The type of a replicated pool, in Ceph's maps.
REPLICATED = 1
#: States of placement groups that lack copies of something.
LACKING = ('degraded', 'undersized')
#: States of placement groups of which Ceph found copies to differ.
DIFFERENT = ('inconsistent',)
#: States of placement groups in which nothing can be read or written.
STUCK = ('peered', 'down', 'incomplete')
_CRITICAL = engine.Severity.CRITICAL
_WARNING = engine.Severity.WARNING


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """The pool, as the cluster's map has it."""

    name: str
    size: int
    min_size: int
    replicated: bool
    #: Such as ``full`` and ``full_quota``.
    flags: frozenset[str]
    #: The numbers of the OSDs that are up, in the whole cluster.
    up: frozenset[int]
    #: How many bytes and objects may be in it, 0 for any number.
    quota_bytes: int = 0
    quota_objects: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Where one object of an image lies."""

    pgid: str
    #: The OSDs that should have it, and those that serve it now.
    up: tuple[int, ...]
    acting: tuple[int, ...]


def ask(cluster: connection.Cluster, prefix: str, **arguments: Any) -> Any:
    """Put a command to the monitors; return what their JSON says.

    :returns: None if they say nothing
    :raises easystack_image.exceptions.DeviceError: if they refuse it
    """
    command = json.dumps({'prefix': prefix, 'format': 'json', **arguments})
    result, output, why = cluster.run(
        lambda: cluster.rados.mon_command(command, b''))
    if result:
        error = cluster.failure(result)
        raise type(error)(cluster.name, f'"ceph {prefix}": {why}',
                          error.errno)
    return json.loads(output) if output.strip() else None


def look(cluster: connection.Cluster) -> Pool:
    """Return how the pool is.

    :raises easystack_image.exceptions.DeviceUnavailable: if there is no such
        pool (any more)
    """
    name = cluster.settings.pool
    seen = ask(cluster, 'osd dump')
    for each in seen['pools']:
        if each['pool_name'] == name:
            return Pool(
                name, each['size'], each['min_size'],
                each['type'] == REPLICATED,
                frozenset(each['flags_names'].split(','))
                | (frozenset(seen['flags'].split(',')) & {'full'}),
                frozenset(osd['osd'] for osd in seen['osds'] if osd['up']),
                each['quota_max_bytes'], each['quota_max_objects'])
    raise exceptions.DeviceUnavailable(
        cluster.name, f'cluster {cluster.fsid} has no such pool')


def promises(pool: Pool, settings: settings_module.Settings,
             ) -> list[engine.Problem]:
    """Return in what a pool keeps less than it should, whatever happens."""
    problems = []

    def lacks(what: str, message: str) -> None:
        problems.append(engine.Problem(_CRITICAL, what, pool.name, message))

    if not pool.replicated:
        lacks('pool-type', f'pool {pool.name} is not replicated: choose one '
                           'that is')
    if pool.size < settings.copies:
        lacks('pool-size',
              f'pool {pool.name} keeps {pool.size} copies, and '
              f'easystack_block_copies is {settings.copies}: run "ceph osd '
              f'pool set {pool.name} size {settings.copies}"')
    if pool.min_size < settings.min_copies:
        lacks('pool-min-size',
              f'pool {pool.name} takes writes that only {pool.min_size} of '
              'its copies have, and easystack_block_min_copies is '
              f'{settings.min_copies}: run "ceph osd pool set {pool.name} '
              f'min_size {settings.min_copies}"')
    return problems


def full(pool: Pool) -> str:
    """Return in words that a pool takes no more, and why."""
    quotas = [f'{number} {unit}' for number, unit in (
        (pool.quota_bytes, 'bytes'), (pool.quota_objects, 'objects'))
        if number]
    if quotas and 'full_quota' in pool.flags:
        return f'pool {pool.name} is at its quota of {" or ".join(quotas)}'
    return f'pool {pool.name} is full'


def assess(cluster: connection.Cluster) -> list[engine.Problem]:
    """Return what an operator should know of the pool, the worst first."""
    pool = look(cluster)
    problems = []
    if pool.flags & {'full', 'full_quota'}:
        problems.append(engine.Problem(
            _CRITICAL, 'pool-full', pool.name,
            f'{full(pool)}: delete images, add OSDs, or raise its quota '
            f'("ceph osd pool get-quota {pool.name}")', True))
    stuck = groups(cluster, STUCK)
    if stuck:
        problems.append(engine.Problem(
            _CRITICAL, 'pool-inactive', pool.name,
            f'{len(stuck)} placement groups of pool {pool.name} take no '
            'reads or writes: bring OSDs back ("ceph health detail")', True))
    problems += promises(pool, cluster.settings)
    lacking = groups(cluster, LACKING)
    if lacking:
        problems.append(engine.Problem(
            _WARNING, 'pool-degraded', pool.name,
            f'{len(lacking)} placement groups of pool {pool.name} lack '
            'copies, until Ceph has recovered ("ceph health detail")'))
    different = groups(cluster, DIFFERENT)
    if different:
        problems.append(engine.Problem(
            _WARNING, 'pool-inconsistent', pool.name,
            f'Ceph found copies in pool {pool.name} to differ, in the '
            f'placement groups {", ".join(sorted(different))}: run '
            '"easystack-image-manage scrub" first, which knows by checksums '
            'which of them are right, and "ceph pg repair" for what is left '
            'then'))
    if 'nearfull' in pool.flags:
        problems.append(engine.Problem(
            _WARNING, 'pool-nearly-full', pool.name,
            f'pool {pool.name} is nearly full: delete images or add OSDs'))
    return problems


def groups(cluster: connection.Cluster,
           states: Sequence[str]) -> frozenset[str]:
    """Return the placement groups of the pool in any of some states."""
    listed = ask(cluster, 'pg ls-by-pool', poolstr=cluster.settings.pool,
                 states=list(states))
    return frozenset(each['pgid'] for each in listed.get('pg_stats', ()))


def scrubs(cluster: connection.Cluster,
           groups: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return when placement groups were last compared, and their states.

    :returns: by group; the times are as Ceph writes them
    """
    listed = ask(cluster, 'pg ls-by-pool', poolstr=cluster.settings.pool)
    return {each['pgid']: (each['last_deep_scrub_stamp'], each['state'])
            for each in listed['pg_stats'] if each['pgid'] in groups}


def places(cluster: connection.Cluster,
           objects: Iterable[str]) -> list[Placement]:
    """Return where objects lie, in the order in which they are named."""
    found = []
    for name in objects:
        seen = ask(cluster, 'osd map', pool=cluster.settings.pool,
                   object=name)
        found.append(Placement(seen['pgid'], tuple(seen['up']),
                               tuple(seen['acting'])))
    return found


def device(pool: str, number: int) -> str:
    """Return what a copy is called: which of the pool's it is.

    :param number: from 0 on
    """
    return f'{pool}/{number + 1}'


def copies(cluster: connection.Cluster, pool: Pool,
           sample: Sequence[Placement], lacking: Collection[str],
           ) -> list[engine.Copy]:
    """Return how the copies of an image are, as far as a sample tells.

    A copy lies on many OSDs, with others' parts: its ``zone`` names those
    that have it of the sample.  Which of the copies a degraded placement
    group lacks is not told, so it is put to the last.

    :param sample: where some objects of the image lie
    :param lacking: the placement groups that lack copies
    """
    wanted = max(cluster.settings.copies, pool.size)
    listed = []
    for number in range(wanted):
        osds, absent = set(), set()
        for place in sample:
            there = [osd for osd in place.acting
                     if osd != NOBODY and osd in pool.up]
            if number < len(there):
                osds.add(there[number])
            if number >= len(there) or (
                    place.pgid in lacking and number == wanted - 1):
                absent.add(place.pgid)
        reason = '' if not absent else (
            f'{len(absent)} of {len({each.pgid for each in sample})} '
            'placement groups looked at lack it, until Ceph has recovered: '
            + ', '.join(sorted(absent)))
        listed.append(engine.Copy(
            device(pool.name, number),
            ' '.join(f'osd.{osd}' for osd in sorted(osds)),
            engine.CopyState.MISSING if absent else engine.CopyState.GOOD,
            reason))
    return listed


def room(cluster: connection.Cluster) -> tuple[int, int]:
    """Return how many bytes of images fit the pool, and how many still do."""
    for each in ask(cluster, 'df')['pools']:
        if each['name'] == cluster.settings.pool:
            stats: Mapping[str, int] = each['stats']
            return stats['stored'] + stats['max_avail'], stats['max_avail']
    return 0, 0
