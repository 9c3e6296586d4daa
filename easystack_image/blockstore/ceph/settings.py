"""What the ceph engine is told, checked."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from easystack_image import exceptions

#: How the options that are this engine's alone begin, besides the prefix
#: that all have.
PREFIX = 'ceph_'


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a ceph engine; bad ones raise ConfigurationError.

    :param pool: the pool that the images are in
    :param user: who to be for Ceph, without ``client.``
    :param conf: path of Ceph's configuration file
    :param object_size_mib: size of the objects that an image is cut into,
        in MiB; a power of two
    :param timeout: seconds that one operation of the cluster may take
    :param queue_depth: how many reads of 1 MiB, or writes of 4 MiB, each
        transfer may have under way
    :param copies: how many copies the pool must keep (its ``size``)
    :param min_copies: how many must be there for anything to be written (its
        ``min_size``)
    :param self_repair: whether to sweep and verify in the background
    :param sweep_interval: seconds between looks for leftovers
    :param heal_interval: seconds between rounds of the healer
    :param scrub_period: days within which every image is verified
    :param scrub_rate: MiB per second that the healer may read to verify
        images, 0 for any
    """

    pool: str = 'images'
    user: str = 'glance'
    conf: str = '/etc/ceph/ceph.conf'
    object_size_mib: int = 8
    timeout: float = 30.0
    queue_depth: int = 8
    copies: int = 3
    min_copies: int = 2
    self_repair: bool = True
    sweep_interval: float = 300.0
    heal_interval: float = 60.0
    scrub_period: float = 14.0
    scrub_rate: float = 50.0

    def __post_init__(self) -> None:
        for name in ('pool', 'user', 'conf'):
            if not getattr(self, name):
                raise exceptions.ConfigurationError(
                    f'{PREFIX}{name} must not be empty')
        if self.object_size_mib not in (1, 2, 4, 8, 16, 32):
            raise exceptions.ConfigurationError(
                f'{PREFIX}object_size_mib must be 1, 2, 4, 8, 16 or 32, not '
                f'{self.object_size_mib}')
        if not 1 <= self.queue_depth <= 64:
            raise exceptions.ConfigurationError(
                f'{PREFIX}queue_depth must be 1 to 64, not '
                f'{self.queue_depth}')
        if not 1 <= self.copies <= 16:
            raise exceptions.ConfigurationError(
                f'copies must be 1 to 16, not {self.copies}')
        if not 1 <= self.min_copies <= self.copies:
            raise exceptions.ConfigurationError(
                f'min_copies must be 1 to copies ({self.copies}), not '
                f'{self.min_copies}')
        for name, value in ((f'{PREFIX}timeout', self.timeout),
                            ('sweep_interval', self.sweep_interval),
                            ('heal_interval', self.heal_interval)):
            if not 0 < value < float('inf'):
                raise exceptions.ConfigurationError(
                    f'{name} must be more than 0 seconds, not {value}')
        if not 0 < self.scrub_period < float('inf'):
            raise exceptions.ConfigurationError(
                'scrub_period must be more than 0 days, not '
                f'{self.scrub_period}')
        if not 0 <= self.scrub_rate < float('inf'):
            raise exceptions.ConfigurationError(
                f'scrub_rate must be 0 or more, not {self.scrub_rate}')

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Settings:
        """Make settings from the options of a store.

        :param options: by name, without the prefix ``easystack_block_``;
            those of other engines are ignored
        """
        values = {}
        for field in dataclasses.fields(cls):
            for name in (field.name, PREFIX + field.name):
                if name in options and (
                        name.startswith(PREFIX) or name in _SHARED):
                    values[field.name] = options[name]
        return cls(**values)

    @property
    def order(self) -> int:
        """The size of the objects as librbd has it: a power of two."""
        return 20 + self.object_size_mib.bit_length() - 1


#: Options that other engines have, too.
_SHARED = ('copies', 'min_copies', 'self_repair', 'sweep_interval',
           'heal_interval', 'scrub_period', 'scrub_rate')
