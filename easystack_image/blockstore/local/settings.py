"""What the local engine is told, checked."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import os

from easystack_image import exceptions

#: Settings that must be more than 0, and their units.
_MORE_THAN_0 = {'io_timeout': 'seconds', 'sweep_interval': 'seconds',
                'heal_interval': 'seconds', 'scrub_period': 'days',
                'nearly_full': 'per cent'}


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a local engine; bad ones raise ConfigurationError.

    :param devices: absolute paths of the devices' directories
    :param copies: how many copies each image should have
    :param min_copies: how many must be durable before an acknowledgement
    :param io_timeout: seconds that one operation on a device may take
    :param allow_shared_disk: whether devices may share a disk
    :param direct_io: whether to write past the page cache
    :param self_repair: whether to repair in the background
    :param sweep_interval: seconds between looks for leftovers
    :param heal_interval: seconds between rounds of the healer
    :param scrub_period: days within which every copy is verified
    :param scrub_rate: MiB per second that a scrub may read, 0 for any
    :param absent_grace: seconds that a device may be away before its copies
        are made up for on others
    :param quarantine_ttl: days that bad copies are kept
    :param deleted_ttl: days for which deletions are remembered
    :param nearly_full: percentage of a device's room in use from which on it
        is reported
    :param metrics_file: absolute path of the file to which the healer writes
        metrics, '' for none
    :param store_name: how the store is called, in metrics
    """

    devices: Sequence[str]
    copies: int = 3
    min_copies: int = 2
    io_timeout: float = 30.0
    allow_shared_disk: bool = False
    direct_io: bool = True
    self_repair: bool = True
    sweep_interval: float = 300.0
    heal_interval: float = 60.0
    scrub_period: float = 14.0
    scrub_rate: float = 50.0
    absent_grace: float = 3600.0
    quarantine_ttl: float = 30.0
    deleted_ttl: float = 180.0
    nearly_full: float = 85.0
    metrics_file: str = ''
    store_name: str = ''

    def __post_init__(self) -> None:
        if not 1 <= self.copies <= 16:
            raise exceptions.ConfigurationError(
                f'copies must be 1 to 16, not {self.copies}')
        if not 1 <= self.min_copies <= self.copies:
            raise exceptions.ConfigurationError(
                f'min_copies must be 1 to copies ({self.copies}), not '
                f'{self.min_copies}')
        for name in _MORE_THAN_0:
            if not 0 < getattr(self, name) < float('inf'):
                raise exceptions.ConfigurationError(
                    f'{name} must be more than 0 {_MORE_THAN_0[name]}, not '
                    f'{getattr(self, name)}')
        check_paths(self.devices)
        if self.metrics_file and not os.path.isabs(self.metrics_file):
            raise exceptions.ConfigurationError(
                f'metrics_file {self.metrics_file!r} must be an absolute '
                'path')
        if len(self.devices) < self.copies:
            raise exceptions.ConfigurationError(
                f'{self.copies} copies need at least as many devices, but '
                f'only {len(self.devices)} are listed: add devices or lower '
                'copies')


def check_paths(paths: Sequence[str]) -> None:
    """Refuse a list of devices that cannot be meant.

    :raises easystack_image.exceptions.ConfigurationError: if the list is
        empty, or a path is relative, not normal, has white space, or stands
        in it twice (under one name or two)
    """
    if not paths:
        raise exceptions.ConfigurationError(
            'no device is listed: name one directory per disk, separated by '
            'commas')
    for path in paths:
        if not os.path.isabs(path):
            raise exceptions.ConfigurationError(
                f'device {path!r} must be an absolute path')
        if not path.isprintable() or any(map(str.isspace, path)):
            raise exceptions.ConfigurationError(
                f'device {path!r} has white space (or a control character) '
                'in its path; separate devices with commas, and mount disks '
                'at paths without any')
        # POSIX lets two slashes at the beginning mean something else, so
        # normpath() leaves them.
        normal = os.path.normpath(path).replace('//', '/')
        if normal != path:
            raise exceptions.ConfigurationError(
                f'write device {path!r} as {normal!r}')
    # One device under two names is found by its identity, later: a path must
    # not be looked at here, where a disk that hangs would hang us.
    names = collections.Counter(paths)
    for path in paths:
        if names[path] > 1:
            raise exceptions.ConfigurationError(
                f'device {path!r} is listed more than once; each copy needs '
                'a device of its own')
