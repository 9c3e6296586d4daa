"""What is wrong with a store, told without looking at its images.

The devices are asked for their identity and their room, once and side by
side; what there is to say of the images is in the status that the healer
leaves on each device (see status.py).  So it costs a few system calls per
device, and can be asked every few seconds.

A problem is critical if images can be lost, or uploads or downloads fail
(``outage``), a warning if all images can be had.  Every message says what to
do.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterator, Mapping
import errno
import time
from typing import Protocol

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import members as members_module
from easystack_image.blockstore.local import probe
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import status as status_module

Problem = engine_module.Problem
CRITICAL = engine_module.Severity.CRITICAL
WARNING = engine_module.Severity.WARNING

#: Seconds that the devices have to answer.
PATIENCE = 5.0
#: Rounds that the healer may miss before that is reported.  A round with
#: much to repair takes longer than its interval.
ROUNDS = 5
#: How far behind its period a scrub may be: a copy is read when it is due.
LATE = 1.1
DAY = 86400.0
#: Directories without which a device takes no new image.
_NEEDED = frozenset({layout.TMP, layout.IMAGES})
_DENIED = {errno.EACCES, errno.EPERM}
_GONE = {None, errno.ENOENT, errno.ENOTDIR}


class Store(Protocol):
    """What is assessed: a local engine, started or not."""

    fleet: fleet_module.Fleet
    settings: settings_module.Settings


def assess(store: Store, patience: float = PATIENCE) -> list[Problem]:
    """Return what is wrong with a store, the worst first.

    :param patience: seconds that the devices have to answer; those that do
        not are reported, and are not left alone by others because of it
    """
    return judge(store, *probe.run(store.fleet, patience))


def judge(store: Store, probes: Mapping[str, probe.Probe],
          failures: Mapping[str, exceptions.DeviceError]) -> list[Problem]:
    """Return what is wrong with a store, the worst first.

    :param probes: what its devices said, by path
    :param failures: why the others said nothing
    """
    ours = _set(store.fleet, probes)
    own = {path: each for path, each in probes.items()
           if each.identity.store_id == ours}
    status = max((each.status for each in own.values() if each.status),
                 key=lambda each: each.written_at, default=None)
    problems = [*_unreachable(failures),
                *_foreign(store.fleet, probes, ours),
                *_cloned(store.fleet, own),
                *_shared(store, own),
                *_lacking(own),
                *_room(store.settings, own),
                *_not_written(status, own),
                *_members(own, failures),
                *_count(store.settings, own),
                *_claims(own, store.settings),
                *_healer(status, store.settings),
                *(_images(status, store.settings) if status else ())]
    return sorted(problems, key=lambda problem: (
        not problem.outage, problem.severity is not CRITICAL))


def _set(fleet: fleet_module.Fleet,
         probes: Mapping[str, probe.Probe]) -> str | None:
    """Return the set that the devices should belong to.

    The one that the engine works with, or that most of them belong to.
    """
    if fleet.store_id is not None:
        return fleet.store_id
    sets = collections.Counter(each.identity.store_id
                               for each in probes.values())
    return max(sets, key=lambda each: (sets[each], each), default=None)


def _unreachable(failures: Mapping[str, exceptions.DeviceError],
                 ) -> Iterator[Problem]:
    for path, failure in failures.items():
        if isinstance(failure, exceptions.DeviceTimeout):
            yield Problem(WARNING, 'hung-device', path,
                          f'{failure}: look for errors of its disk in the '
                          'kernel log; if it is dying, replace it')
        elif failure.errno in _DENIED:
            yield Problem(WARNING, 'denied-device', path,
                          f'{path} cannot be read ({failure.reason}): give '
                          'it (chown) to the user that Glance runs as')
        elif failure.errno in _GONE:
            yield Problem(WARNING, 'missing-device', path,
                          f'{failure}: mount its disk; if that is lost, '
                          'replace it with "easystack-image-manage device '
                          'replace"')
        else:
            yield Problem(WARNING, 'failed-device', path,
                          f'{path} cannot be used ({failure.reason}): look '
                          'for errors of its disk in the kernel log, then '
                          'repair or replace it')


def _foreign(fleet: fleet_module.Fleet, probes: Mapping[str, probe.Probe],
             ours: str | None) -> Iterator[Problem]:
    # A process that runs already goes on with the others.
    started = fleet.store_id is not None
    for path, each in probes.items():
        if each.identity.store_id != ours:
            yield Problem(
                WARNING if started else CRITICAL, 'foreign-device', path,
                f'{path} belongs to another set of devices '
                f'({each.identity.store_id}, not {ours}): mount the right '
                'disk, or take it out of easystack_block_devices; with it, '
                'Glance does not start this store', outage=not started)


def _cloned(fleet: fleet_module.Fleet,
            own: Mapping[str, probe.Probe]) -> Iterator[Problem]:
    started = fleet.store_id is not None
    places = collections.defaultdict(list)
    for path, each in own.items():
        places[each.identity.device_id].append(path)
    for device_id, paths in places.items():
        for path in paths[1:]:
            yield Problem(
                WARNING if started else CRITICAL, 'cloned-device', path,
                f'{path} and {paths[0]} are the same device ({device_id}): '
                'list it once; a cloned disk must be emptied and prepared '
                'anew. With both, Glance does not start this store',
                outage=not started)


def _shared(store: Store,
            own: Mapping[str, probe.Probe]) -> Iterator[Problem]:
    if store.settings.allow_shared_disk:
        return
    started = store.fleet.store_id is not None
    first: dict[str, str] = {}
    for path, each in own.items():
        other = first.setdefault(each.disk, path)
        # Of the same device twice there is more to say.
        if own[other].identity.device_id != each.identity.device_id:
            yield Problem(
                WARNING if started else CRITICAL, 'shared-disk', path,
                f'{path} and {other} lie on the same disk, so their copies '
                'would be lost together: mount a disk of its own at each '
                '(or set easystack_block_allow_shared_disk to try things '
                'out). With both, Glance does not start this store',
                outage=not started)


def _lacking(own: Mapping[str, probe.Probe]) -> Iterator[Problem]:
    for path, each in own.items():
        if each.lacks:
            yield Problem(
                WARNING, 'missing-directory', path,
                f'{path} has no directory {", ".join(each.lacks)}: look for '
                'what removed that, create it with mode 0700 and the owner '
                'of the device, then run "easystack-image-manage fsck"; '
                'without tmp and images it takes no new image')


def _room(settings: settings_module.Settings,
          own: Mapping[str, probe.Probe]) -> Iterator[Problem]:
    for path, each in own.items():
        if each.read_only:
            yield Problem(
                WARNING, 'read-only-device', path,
                f'{path} is mounted read-only: the kernel does that after '
                'errors of the disk; see its log, check the file system and '
                'mount it anew, or replace the disk')
        if each.full:
            yield Problem(
                WARNING, 'full-device', path,
                f'{path} is full: add a device and rebalance, or delete '
                'images')
        elif each.used * 100 >= settings.nearly_full:
            yield Problem(
                WARNING, 'nearly-full-device', path,
                f'{path} is {each.used:.0%} full: add a device and '
                'rebalance, or delete images')


def _not_written(status: status_module.Status | None,
                 own: Mapping[str, probe.Probe]) -> Iterator[Problem]:
    """Tell of devices that the healer reaches, and cannot write to.

    So a disk is found out that dies without the kernel noticing: nobody
    writes to it just to see whether that works.
    """
    for path, each in own.items():
        if not (status and each.status) or each.full or each.read_only:
            continue
        behind = status.written_at - each.status.written_at
        if behind > ROUNDS * status.interval:
            yield Problem(
                WARNING, 'unwritable-device', path,
                f'the healer could not write to {path} for {behind:.0f} s: '
                'unless it came back just now, look for errors of its disk '
                'in the kernel log')


def _members(own: Mapping[str, probe.Probe],
             failures: Collection[str]) -> Iterator[Problem]:
    """Tell of devices that are not where they were, or should not be."""
    here = {each.identity.device_id: path for path, each in own.items()}
    remembered = members_module.merge(
        [each.memory for each in own.values()],
        {each.identity.device_id: members_module.Member(path, each.identity)
         for path, each in own.items()}).members
    successors = {each.identity.replaces: path for path, each in own.items()
                  if each.identity.replaces}
    for device_id, path in here.items():
        if device_id in successors:
            yield Problem(
                WARNING, 'replaced-device', path,
                f'{path} was replaced by {successors[device_id]}: when it '
                'is empty, remove it ("easystack-image-manage device '
                'remove") and take it out of easystack_block_devices')
    for device_id, member in sorted(remembered.items()):
        if device_id in here or device_id in successors or (
                member.path in failures):
            continue
        if member.path in own:
            yield Problem(
                WARNING, 'exchanged-device', member.path,
                f'{member.path} is another device than it was: device '
                f'{device_id} is gone. Mount its disk (perhaps two were '
                'mounted the wrong way round), or have it removed with '
                '"easystack-image-manage device remove"')
        else:
            yield Problem(
                WARNING, 'unknown-device', member.path,
                f'{member.path} (device {device_id}) belongs to the set, '
                'but not to easystack_block_devices: list it, or remove it '
                'with "easystack-image-manage device remove"')


def _count(settings: settings_module.Settings,
           own: Mapping[str, probe.Probe]) -> Iterator[Problem]:
    """Tell whether there are enough devices for new images."""
    replaced = {each.identity.replaces for each in own.values()}
    usable = {each.identity.device_id: each.identity.zone
              for each in own.values()
              if each.identity.state == device_module.ACTIVE
              and each.identity.device_id not in replaced
              and not each.read_only and not each.full
              and _NEEDED.isdisjoint(each.lacks)}
    if not own:
        yield Problem(CRITICAL, 'no-devices', None,
                      'no device can be used: no image can be read or '
                      'written; mount the disks', outage=True)
    elif len(usable) < settings.min_copies:
        yield Problem(CRITICAL, 'too-few-devices', None,
                      f'{len(usable)} devices take new images, and '
                      f'{settings.min_copies} copies are needed: uploads '
                      'are refused; bring devices back, or add some',
                      outage=True)
    elif len(usable) < settings.copies:
        yield Problem(WARNING, 'too-few-devices', None,
                      f'{len(usable)} devices take new images, for '
                      f'{settings.copies} copies: images get fewer copies '
                      'than they should; bring devices back, or add some')
    elif len(set(usable.values())) < settings.copies:
        yield Problem(WARNING, 'too-few-zones', None,
                      f'the devices that take new images are in '
                      f'{len(set(usable.values()))} zones, for '
                      f'{settings.copies} copies: some copies would be lost '
                      'together; add a device in another zone')


def _claims(probes: Mapping[str, probe.Probe],
            settings: settings_module.Settings) -> Iterator[Problem]:
    """Tell who wants another number of copies than this configuration."""
    others = [each for each in claims.newest(
        each.claims for each in probes.values())
        if each.copies != settings.copies]
    if others:
        named = ', '.join(
            f'{each.copies} in store "{each.store}" of {each.host} (told '
            f'{time.strftime("%Y-%m-%d %H:%M", time.gmtime(each.at))} UTC)'
            for each in others)
        yield Problem(
            WARNING, 'copies-differ', None,
            f'easystack_block_copies is {settings.copies} here (store '
            f'"{settings.store_name}"), and {named}, on the same devices: '
            'the largest number counts when copies are moved or removed. '
            'Configure the same number, and restart Glance and the healer; '
            'two stores that are to differ need devices of their own. A store '
            'that is no more is forgotten after a week')


def _healer(status: status_module.Status | None,
            settings: settings_module.Settings) -> Iterator[Problem]:
    if status is None:
        yield Problem(WARNING, 'healer-never-ran', None,
                      'the healer never ran, so nothing is verified or made '
                      'up for by itself: run "easystack-image-manage heal" '
                      'as a service')
        return
    differ = status.disagreement(settings.copies)
    if differ:
        yield Problem(WARNING, 'healer-disagrees', None, differ)
    age = time.time() - status.written_at
    interval = max(status.interval, settings.heal_interval)
    if age > ROUNDS * interval:
        yield Problem(WARNING, 'healer-stale', None,
                      f'the healer ({status.healer}) said nothing for '
                      f'{age:.0f} s, and should every {interval:.0f} s: see '
                      'whether its service runs, and its log; with much to '
                      'repair, a round takes longer')
    oldest = status.oldest_verified_at
    behind = time.time() - oldest - LATE * settings.scrub_period * DAY
    if oldest and behind > ROUNDS * interval:
        yield Problem(WARNING, 'scrub-late', None,
                      f'some copy was not verified for '
                      f'{(time.time() - oldest) / DAY:.1f} days, and should '
                      f'be every {settings.scrub_period:g}: raise '
                      'easystack_block_scrub_rate, and see whether the '
                      'healer runs')


def _images(status: status_module.Status,
            settings: settings_module.Settings) -> Iterator[Problem]:
    """Tell what the healer saw of the images."""
    if status.lost:
        yield Problem(CRITICAL, 'images-lost', None,
                      f'{_number(status.lost)} no good copy on the devices '
                      "that are there (the healer's log names them, and "
                      '"easystack-image-manage fsck --verify"): bring back '
                      'devices that are away, look into quarantine; else '
                      'restore the data from a backup, or delete the image '
                      'in Glance')
    if status.below_min_copies > status.lost:
        yield Problem(CRITICAL, 'images-below-min-copies', None,
                      f'{_number(status.below_min_copies - status.lost)} '
                      'fewer than '
                      f'{settings.min_copies} copies within reach, and may '
                      'be lost with the next device: bring devices back, or '
                      'run "easystack-image-manage repair"')
    if status.below_copies > status.below_min_copies:
        yield Problem(
            WARNING, 'images-below-copies', None,
            f'{_number(status.below_copies)} fewer than {settings.copies} '
            'copies within reach: the healer makes up for them, after '
            'easystack_block_absent_grace if a device is away')
    if status.failing > status.lost:
        yield Problem(WARNING, 'images-failing', None,
                      f'{_number(status.failing - status.lost)} bad or '
                      'missing copies '
                      "that could not be repaired: the healer's log says "
                      'why; it tries again')
    if status.waiting > status.failing:
        yield Problem(WARNING, 'images-waiting', None,
                      f'{_number(status.waiting)} a repair to come: let the '
                      'healer finish')
    if status.misplaced:
        yield Problem(WARNING, 'images-misplaced', None,
                      f'{_number(status.misplaced)} copies that are not '
                      'where they belong: let the healer finish, or run '
                      '"easystack-image-manage rebalance"')


def _number(images: int) -> str:
    return '1 image has' if images == 1 else f'{images} images have'
