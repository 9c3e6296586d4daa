"""A Glance, its database, its store, a healer and an operator."""

from __future__ import annotations

from collections.abc import Sequence
import json
import os
from pathlib import Path
import signal
from typing import Any

from easystack_image.blockstore.local import provision
from easystack_image.blockstore.local import status
from tests.functional import processes
from tests.functional import server
from tests.soak import catalogue
from tests.soak import disks as disks_module

COPIES = 3
#: Seconds that one operation on a device may take.
TIMEOUT = 3
OPTIONS: dict[str, Any] = {
    'copies': COPIES, 'min_copies': 2, 'io_timeout': TIMEOUT,
    'allow_shared_disk': False, 'sweep_interval': 5, 'heal_interval': 2,
    # All in days: about one and a half minutes, and 45 seconds.
    'scrub_period': 0.001, 'deleted_ttl': 0.001, 'quarantine_ttl': 0.0005,
    'absent_grace': 6,
}
#: What the engine logs when it has made up for something.
REPAIRS = {'copies made': 'made a new copy on',
           'uploads completed after a crash': 'completed its copy',
           'surplus copies removed': 'removed the surplus copy',
           'deletions made up for': 'was away when the image was deleted',
           'leftovers removed': 'Removed the leftover'}


class World:
    """Everything that runs; start it from the main thread.

    :param root: where files are that nothing happens to
    :param disks: of the store; one that is not a member yet is not prepared
    """

    def __init__(self, root: Path,
                 disks: Sequence[disks_module.Disk]) -> None:
        self.root = root
        self.disks = list(disks)
        self.glance = server.Glance(
            root, [server.block_store(
                'copies', [Path(disk.path) for disk in disks], **OPTIONS)],
            database=server.MariaDB())
        self.healer = processes.Process(
            self.glance.manage_command('heal'), root / 'healer.log')

    def start(self) -> None:
        """Prepare the devices, and start everything."""
        paths = [disk.path for disk in self.disks]
        for disk in self.disks:
            if disk.member:
                # The same as on its path, and faster.
                provision.initialise(paths, [disk.path], disk.zone, 1.0,
                                     False)
        self.glance.prepare()
        self.glance.start()
        self.healer.start()

    def stop(self) -> None:
        """Stop everything."""
        self.healer.stop()
        self.glance.stop()

    def workers(self) -> list[int]:
        """Return the processes that serve requests."""
        children = Path(f'/proc/{self.glance.pid}/task/{self.glance.pid}'
                        '/children').read_text().split()
        return [int(pid) for pid in children]

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a worker."""
        os.kill(pid, number)

    def restart_healer(self) -> None:
        """Kill the healer, and start another one."""
        self.healer.kill()
        self.healer.start()

    def _operate(self, *words: str) -> str:
        """Run a command as an operator does; return what it printed."""
        # 3 says that something is not good.
        return processes.check(self.glance.manage_command(*words),
                               accept=(0, 3))

    def add(self, disk: disks_module.Disk) -> None:
        """Have a new disk join the set."""
        self._operate('device', 'add', disk.path, '--zone', disk.zone)
        disk.member = True

    def drain(self, disk: disks_module.Disk) -> None:
        """Move what can be moved from a disk."""
        self._operate('device', 'drain', disk.path)

    def activate(self, disk: disks_module.Disk) -> None:
        """Have copies placed on a disk again that was drained."""
        self._operate('device', 'drain', '--cancel', disk.path)

    def replace(self, disk: disks_module.Disk) -> None:
        """Have the empty disk take the place of the one that was there."""
        self._operate('device', 'replace', disk.path)

    def fsck(self, *options: str) -> list[dict[str, Any]]:
        """Check everything against Glance's database; return what is wrong.

        :param options: more of the command's
        """
        rows: list[dict[str, Any]] = json.loads(self._operate(
            'fsck', '--verify', '--with-database', '--older-than', '0',
            '-f', 'json', *options))
        # A disk that was not added yet is none of the store's.
        strangers = {disk.path for disk in self.disks if not disk.member}
        return [row for row in rows if row['device'] not in strangers]

    def status(self) -> status.Status | None:
        """Return what the healer left on the devices last."""
        found = []
        for disk in self.disks:
            try:
                found.append(status.unpack(
                    (disk.inside / status.STATUS).read_bytes()))
            except (OSError, ValueError, TypeError):
                # It is away, or new.
                continue
        return max(found, key=lambda each: each.written_at, default=None)

    def holders(self, image: catalogue.Image, without: set[int],
                read: bool = False, before: float = float('inf'),
                ) -> list[disks_module.Disk]:
        """Return the disks with a good copy.

        :param without: numbers of disks not to look at
        :param read: whether to compare all bytes
        :param before: see ``Disk.has``
        """
        return [disk for disk in self.disks
                if disk.member and disk.number not in without
                and disk.has(image, read, before)]

    def repairs(self) -> dict[str, object]:
        """Return what was repaired, as the logs tell."""
        text = self.glance.log()
        if self.healer.log.exists():
            text += self.healer.log.read_text(errors='replace')
        return {name: text.count(words) for name, words in REPAIRS.items()}

    def logged(self, word: str, lines: int = 25) -> str:
        """Return the last lines of the logs in which a word is."""
        found = []
        for name, text in (('glance', self.glance.log()), (
                'healer', self.healer.log.read_text(errors='replace'))):
            found += [f'  {name}: {line}' for line in text.splitlines()
                      if word in line][-lines:]
        return '\n'.join(found)
