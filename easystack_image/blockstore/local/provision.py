"""Preparing directories as devices of one set."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
import functools
import os
from typing import TypeVar
import uuid

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import settings
from easystack_image.blockstore.local import timed

T = TypeVar('T')


def ask(paths: Iterable[str], function: Callable[[str], T], timeout: float,
        patience: float = 0.0) -> dict[str, T]:
    """Call a function for the path of each device, side by side.

    :param timeout: seconds that an operation on a device may take
    :param patience: seconds, if the function does more than a few operations
        and calls timed.beat() between them
    :returns: what it returned, by path
    :raises easystack_image.exceptions.ConfigurationError: if a device does
        not answer in time
    :raises Exception: what the function raised
    """
    results: dict[str, T] = {}
    for path, result in timed.gather(
            {path: functools.partial(function, path) for path in paths},
            patience or timeout, 'device-init', quiet=timeout).items():
        if isinstance(result, TimeoutError) and result.errno is None:
            raise exceptions.ConfigurationError(
                f'device {path} did not answer within {timeout:g} s: see '
                'what its disk does (dmesg), and try again')
        if isinstance(result, Exception):
            raise result
        results[path] = result
    return results


def initialise(configured: Sequence[str], chosen: Sequence[str] = (),
               zone: str | None = None, weight: float = 1.0,
               allow_shared_disk: bool = True,
               timeout: float = 30.0) -> list[str]:
    """Prepare those devices of a store that are not prepared yet.

    They join the set of the prepared ones, or form a new set.

    :param configured: all devices of the store
    :param chosen: which of them to prepare; by default all, and those that
        are prepared already are passed over
    :param allow_shared_disk: whether devices may share a disk
    :param timeout: seconds that one operation on a device may take
    :returns: the paths of those that were prepared
    :raises easystack_image.exceptions.ConfigurationError: if one cannot be;
        those before it are prepared then
    """
    settings.check_paths(configured)
    for path in chosen:
        if path not in configured:
            raise exceptions.ConfigurationError(
                f'{path!r} is not among the devices of the store '
                f'({", ".join(configured)}): add it to '
                'easystack_block_devices first')
    identities = ask(configured, _identity, timeout)
    if not allow_shared_disk:
        device.refuse_shared(ask(configured, device.disk_of, timeout))
    sets = {identity.store_id for identity in identities.values()
            if identity is not None}
    if len(sets) > 1:
        raise exceptions.ConfigurationError(
            'the devices belong to different sets: list only devices of one '
            'set')
    store_id = sets.pop() if sets else str(uuid.uuid4())
    todo = [path for path in chosen or configured
            if identities[path] is None or path in chosen]
    refuse_remembered(*_remembered(identities, timeout), todo, timeout)
    for path in todo:
        ask([path], refuse_nested, timeout)
        prepare(path, device.new_identity(store_id, zone, weight), timeout)
    return todo


def prepare(path: str, identity: device.Identity, timeout: float) -> None:
    """Make a device of an empty directory, or raise in time.

    See :func:`easystack_image.blockstore.local.device.initialise`.
    """
    ask([path], functools.partial(device.initialise, identity=identity),
        timeout, inventory.LONG)


def check_unused(path: str, timeout: float) -> None:
    """Refuse a directory that :func:`prepare` would refuse, or raise in time.

    See :func:`easystack_image.blockstore.local.device.check_unused`.
    """
    ask([path], device.check_unused, timeout, inventory.LONG)


def _remembered(identities: Mapping[str, device.Identity | None],
                timeout: float) -> tuple[Mapping[str, members.Member],
                           Mapping[str, members.Member]]:
    """Return all members of the set, and those that are there, by id."""
    memories = ask([path for path, identity in identities.items()
                    if identity is not None], members.recall,
                   timeout).values()
    here = {identity.device_id: members.Member(path, identity)
            for path, identity in identities.items() if identity is not None}
    return members.merge(memories, here).members, here


def refuse_remembered(known: Mapping[str, members.Member],
                      here: Collection[str], todo: Collection[str],
                      timeout: float) -> None:
    """Refuse to make a new device where one of the set is remembered.

    Its disk may be back tomorrow; and the one that takes its place should
    have its zone, its weight and its images.

    :param known: the members of the set, by device id
    :param here: ids of those that are there
    :param todo: paths of the new devices
    :param timeout: seconds that one operation on a device may take
    :raises easystack_image.exceptions.ConfigurationError: saying what to do
        instead
    """
    for device_id, member in known.items():
        if member.path not in todo or device_id in here:
            continue
        # What has something in it is refused for that.
        check_unused(member.path, timeout)
        successors = [other.path for other in known.values()
                      if other.identity.replaces == device_id]
        if successors:
            raise exceptions.ConfigurationError(
                f'{member.path} is where a device of this set was that '
                f'{successors[0]} took the place of: have it forgotten first,'
                f' with "easystack-image-manage device remove {device_id}"')
        raise exceptions.ConfigurationError(
            f'{member.path} is where a device of this set was: mount its '
            'disk again, or, if it is lost, have the new one take its place '
            f'with "easystack-image-manage device replace {member.path}"')


def refuse_nested(path: str) -> None:
    """Refuse a directory within a device: it would be on its disk.

    And among its files, where it does not belong.

    :raises easystack_image.exceptions.ConfigurationError: naming the device
    """
    above = os.path.realpath(path)
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        if os.path.lexists(f'{above}/{device.IDENTITY}'):
            raise exceptions.ConfigurationError(
                f'{path} lies inside the device {above}: give each device a '
                'directory of its own, on a disk of its own')


def _identity(path: str) -> device.Identity | None:
    """Return the identity of a device, or None if it has none yet."""
    try:
        fd = fsio.open_directory(path)
    except OSError as error:
        raise exceptions.ConfigurationError(
            f'device {path}: {error.strerror}: create the directory, or '
            'mount its disk there') from error
    try:
        if not fsio.exists(device.IDENTITY, fd):
            return None
        return device.read_identity(path, fd)
    except exceptions.DeviceUnavailable as error:
        raise exceptions.ConfigurationError(str(error)) from error
    finally:
        os.close(fd)
