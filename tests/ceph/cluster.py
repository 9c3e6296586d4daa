"""A Ceph cluster of our own: a monitor, a manager and three OSDs.

All on 127.0.0.1, with all files in one folder; needs neither root nor
systemd.  From nothing to clean takes some ten seconds.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any
import uuid

from tests.ceph import keeper
from tests.ceph import prerequisites
from tests.functional import processes

GIB = 1 << 30
OSDS = 3
#: Placement groups of the pool: few, so that they are clean soon.
PLACEMENT_GROUPS = 32
#: Seconds that the cluster may take for what it does in a few, on a machine
#: that is busy with other things.
PATIENCE = 120
#: A Unix socket's path must be shorter than 108 bytes; this is what Ceph adds
#: to the folder's at most.
_SOCKET = 'run/ceph-client.admin.1234567.12345678901234.asok'

_CONF = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {root}/run
pid file = {root}/run/$name.pid
admin socket = {root}/run/$name.asok
log file = {root}/log/$name.log
crash dir = {root}/crash
osd pool default size = 3
osd pool default min size = 2
osd pool default pg autoscale mode = off
# The OSDs share a host, and make three copies nevertheless.
osd crush chooseleaf type = 0

[mon]
mon data = {root}/mon.$id
mon cluster log file = {root}/log/cluster.log
paxos propose interval = 0.05
mon mgr digest period = 1
auth allow insecure global id reclaim = false
# The disk is not the cluster's alone.
mon data avail warn = 1
mon data avail crit = 0
# Of the OSDs that are left, each may tell that another is gone.
mon osd min down reporters = 1
mon allow pool delete = true

[mon.a]
mon addr = v2:127.0.0.1:{port}

[mgr]
mgr data = {root}/mgr.$id
mgr tick period = 1
mgr stats period = 1
mgr initial modules =

[osd]
osd data = {root}/osd.$id
osd objectstore = bluestore
bluestore block size = {osd_size}
bluestore block create = true
osd memory target = {osd_memory}
# Sleeps that spare disks at work; here they only make tests wait.
osd recovery sleep hdd = 0
osd snap trim sleep hdd = 0
osd delete sleep hdd = 0
# Or a repair that is asked for begins up to half a minute later.
osd scrub backoff ratio = 0
# Seconds until a client is forgotten that was killed; 30 by default.
osd client watch timeout = 15
crush location = root=default host=localhost

[client]
log file =
admin socket =
pid file =

[client.admin]
keyring = {root}/admin.keyring

[client.glance]
keyring = {root}/glance.keyring
"""


class Cluster:
    """A cluster with a pool for images, and a user who may use that pool.

    After :meth:`start` all placement groups are clean.  :meth:`stop` leaves
    the files; a later :meth:`start` goes on with them.  If the process that
    started the cluster ends without stopping it, however that happens, the
    cluster's processes are killed.

    :param directory: an existing folder, with a path of less than 60 bytes
    :param osd_size: bytes of each OSD; its file is sparse
    """

    #: The pool for images, three copies, two of which must be had.
    pool = 'images'
    #: Another one, made by :meth:`add_pool`.
    second_pool = 'archive'
    #: A user with the rights in both that Ceph's guides give to Glance.
    user = 'glance'

    def __init__(self, directory: Path, osd_size: int = 6 * GIB) -> None:
        self.directory = directory.resolve()
        if len(os.fsencode(self.directory / _SOCKET)) > 107:
            raise ValueError(f'{directory}: too long a path for the sockets')
        self.fsid = self._known_fsid() or str(uuid.uuid4())
        self._osd_size = osd_size
        self._daemons: dict[str, processes.Process] = {}
        self._keeper: subprocess.Popen[bytes] | None = None
        self._harmed = False

    def _known_fsid(self) -> str:
        """Return what the folder's cluster is called, '' if there is none."""
        if not self.conf.exists():
            return ''
        found = re.search(r'^fsid = (\S+)$', self.conf.read_text(), re.M)
        assert found is not None
        return found[1]

    @property
    def conf(self) -> Path:
        """The configuration file, for daemons and clients."""
        return self.directory / 'ceph.conf'

    @property
    def keyring(self) -> Path:
        """The keyring of :attr:`user`; the configuration names it."""
        return self.directory / f'{self.user}.keyring'

    @property
    def admin_keyring(self) -> Path:
        """The keyring of ``client.admin``, who may do anything."""
        return self.directory / 'admin.keyring'

    def start(self) -> None:
        """Start everything, and return when everything is clean.

        :raises processes.ProcessFailed: with the last words of the program
            that failed
        :raises TimeoutError: telling what was waited for
        :raises prerequisites.Missing: if a program is not installed
        """
        try:
            self._start()
        except BaseException:
            self.stop(kill=True)
            raise

    def _start(self) -> None:
        new = not self.conf.exists()
        if new:
            self._prepare()
        self._keep()
        self.start_mon()
        if new:
            self._make_osds()
        self._launch('mgr.x')
        for number in range(OSDS):
            self._launch(f'osd.{number}')
        if new:
            self._make_pool()
        self.wait_clean()

    def _prepare(self) -> None:
        """Write configuration, keys and the monitor's first map."""
        for name in ('run', 'log', 'crash', 'mgr.x',
                     *(f'osd.{number}' for number in range(OSDS))):
            (self.directory / name).mkdir()
        port = processes.free_port()
        self.conf.write_text(_CONF.format(
            fsid=self.fsid, port=port, root=self.directory,
            osd_size=self._osd_size, osd_memory=GIB))
        self._make_keys()
        monmap = self.directory / 'monmap'
        self._run('monmaptool', '--create', '--fsid', self.fsid, '--addv',
                  'a', f'[v2:127.0.0.1:{port}]', str(monmap))
        self._run('ceph-mon', '--mkfs', *self._identity('mon.a'), '--monmap',
                  str(monmap), '--keyring', str(self.directory / 'keyring'))

    def _make_keys(self) -> None:
        rights = {
            self.directory / 'mon.keyring': ('mon.', 'mon', 'allow *'),
            self.admin_keyring: (
                'client.admin', 'mon', 'allow *', 'osd', 'allow *',
                'mgr', 'allow *', 'mds', 'allow *'),
            self.keyring: (
                f'client.{self.user}', 'mon', 'profile rbd',
                'osd', f'profile rbd pool={self.pool}, '
                f'profile rbd pool={self.second_pool}',
                'mgr', f'profile rbd pool={self.pool}, '
                f'profile rbd pool={self.second_pool}'),
            self.directory / 'mgr.x/keyring': (
                'mgr.x', 'mon', 'allow profile mgr', 'osd', 'allow *'),
        } | {
            self.directory / f'osd.{number}/keyring': (
                f'osd.{number}', 'mon', 'allow profile osd',
                'mgr', 'allow profile osd', 'osd', 'allow *')
            for number in range(OSDS)}
        everybody = self.directory / 'keyring'
        everybody.touch(mode=0o600)
        for path, (name, *pairs) in rights.items():
            caps = [word for kind, right in zip(pairs[::2], pairs[1::2],
                                                strict=True)
                    for word in ('--cap', kind, right)]
            self._run('ceph-authtool', '--create-keyring', str(path),
                      '--gen-key', '--name', name, *caps)
            self._run('ceph-authtool', str(everybody), '--import-keyring',
                      str(path))

    def _make_osds(self) -> None:
        """Make the OSDs known, and lay out their files side by side."""
        making = []
        for number in range(OSDS):
            identity = str(uuid.uuid4())
            self.ceph('osd', 'new', identity, str(number))
            making.append((number, subprocess.Popen(
                [prerequisites.command('ceph-osd'), '--mkfs',
                 *self._identity(f'osd.{number}'), '--osd-uuid', identity],
                env=processes.environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
        for number, process in making:
            if process.wait(PATIENCE) != 0:
                raise processes.ProcessFailed(
                    f'ceph-osd --mkfs of osd.{number} fails:\n'
                    f'{self._tail(f"osd.{number}")}')

    def _make_pool(self) -> None:
        self._create_pool(self.pool, PLACEMENT_GROUPS)

    def _create_pool(self, name: str, groups: int) -> None:
        self.ceph('osd', 'pool', 'create', name, str(groups), str(groups),
                  'replicated')
        self.ceph('osd', 'pool', 'set', name, 'min_size', '2')
        self.rbd('pool', 'init', name)

    def add_pool(self) -> str:
        """Make the second pool, if there is none; return its name."""
        if self.second_pool not in self.ceph('osd', 'pool', 'ls'):
            self._create_pool(self.second_pool, 8)
            self.wait_clean()
        return self.second_pool

    def stop(self, kill: bool = False) -> None:
        """Stop everything; the files stay.

        :param kill: without a warning, as a power failure would
        """
        # The monitor is the last, or the others look for it.
        for name in sorted(self._daemons, key=lambda each: (
                'osd', 'mgr', 'mon').index(each.partition('.')[0])):
            daemon = self._daemons.pop(name)
            if kill:
                daemon.kill()
            else:
                daemon.stop()
        if self._keeper is not None:
            self._keeper.communicate(timeout=PATIENCE)
            self._keeper = None

    def _keep(self) -> None:
        """Have the daemons killed when this process ends without a word."""
        if self._keeper is None:
            self._keeper = subprocess.Popen(
                [sys.executable, '-m', 'tests.ceph.keeper', str(self.conf)],
                env=processes.environment(), cwd=processes.ROOT,
                stdin=subprocess.PIPE, start_new_session=True)

    def _identity(self, name: str) -> list[str]:
        """Return the options that tell a program who it is, and whose."""
        return ['--conf', str(self.conf), '-i', name.partition('.')[2]]

    def _launch(self, name: str) -> None:
        if name not in self._daemons:
            program = prerequisites.command(f'ceph-{name.partition(".")[0]}')
            self._daemons[name] = processes.Process(
                [program, '-f', *self._identity(name)],
                self.directory / 'log' / f'{name}.out')
        if not self._daemons[name].running:
            self._daemons[name].start()

    def _tail(self, name: str) -> str:
        """Return the last words of a daemon."""
        said = []
        for ending in ('log', 'out'):
            path = self.directory / 'log' / f'{name}.{ending}'
            # The programs log by their full names.
            for each in (path, path.with_name(f'ceph-{path.name}')):
                if each.exists():
                    said += each.read_text(
                        errors='replace').splitlines()[-30:]
        return '\n'.join(said)

    def running(self, name: str) -> bool:
        """Tell whether a daemon's process runs, such as ``osd.0``."""
        return name in self._daemons and self._daemons[name].running

    def pid(self, name: str) -> int:
        """Return the process id of a daemon, such as ``osd.0``."""
        return self._daemons[name].pid

    def pids(self) -> list[int]:
        """Return the ids of all processes that run for this cluster."""
        return sorted(keeper.processes_of(self.conf))

    def kill_osd(self, number: int) -> None:
        """Kill an OSD, at once and without a warning."""
        self._harmed = True
        self._daemons[f'osd.{number}'].kill()

    def start_osd(self, number: int) -> None:
        """Start an OSD again; :meth:`wait_clean` waits for it."""
        self._launch(f'osd.{number}')

    def alter_copy(self, name: str, data: bytes, number: int = 0) -> None:
        """Change one copy of an object in the pool, unnoticed by its OSD.

        As bytes go bad that an OSD was given so: its own checksums are right.

        :param data: all that the copy is to have
        :param number: which copy; 0 is the one that is read
        """
        self._harmed = True
        place = self.ceph('osd', 'map', self.pool, name)
        osd = place['acting'][number]
        self._daemons[f'osd.{osd}'].stop()
        tool = [prerequisites.command('ceph-objectstore-tool'),
                '--no-mon-config', '--data-path',
                str(self.directory / f'osd.{osd}'), '--pgid', place['pgid']]
        listed = processes.check([*tool, '--op', 'list', name], PATIENCE,
                                 CEPH_CONF=str(self.conf))
        which = next(line for line in listed.splitlines()
                     if line.startswith('['))
        path = self.directory / 'altered'
        path.write_bytes(data)
        processes.check([*tool[:-2], which, 'set-bytes', str(path)],
                        PATIENCE, CEPH_CONF=str(self.conf))
        self.mend()

    def pause_osd(self, number: int) -> None:
        """Have an OSD hang: it keeps its connections, and does nothing."""
        self._harmed = True
        os.kill(self.pid(f'osd.{number}'), signal.SIGSTOP)

    def kill_mon(self) -> None:
        """Kill the monitor, at once and without a warning."""
        self._harmed = True
        self._daemons['mon.a'].kill()

    def start_mon(self) -> None:
        """Start the monitor, and return when it answers."""
        self._launch('mon.a')
        self._wait_for('mon.a', lambda: self._status() is not None)

    def mend(self) -> None:
        """Undo all harm that was done, and wait until all is clean."""
        if self._harmed:
            self.start_mon()
            for number in range(OSDS):
                self.start_osd(number)
                os.kill(self.pid(f'osd.{number}'), signal.SIGCONT)
            self.set_quota(0)
            self.wait_clean()
            self._harmed = False

    def wait_clean(self) -> None:
        """Wait until all OSDs are up and all placement groups are clean.

        :raises TimeoutError: telling how the cluster is instead
        :raises processes.ProcessFailed: if a daemon ended
        """
        self._wait_for('osd.', self._is_clean)

    def _is_clean(self) -> bool:
        known = self.ceph('osd', 'dump')
        since = {}
        for osd in known['osds']:
            nonces = [address['nonce'] for address
                      in osd['public_addrs']['addrvec']]
            # The nonce is the process id: an OSD that was killed and came
            # back may not have told yet, and its forerunner count as up.
            if not osd['up'] or nonces != [self.pid(f'osd.{osd["osd"]}')]:
                return False
            since[osd['osd']] = osd['up_from']
        groups = self.ceph('pg', 'dump', 'pgs')['pg_stats']
        # What was reported before an OSD came back counts no more.
        return (len(since) == OSDS
                and len(groups) == sum(pool['pg_num']
                                       for pool in known['pools'])
                and all(group['state'] == 'active+clean'
                        and int(group['reported_epoch'])
                        >= max(since[number] for number in group['up'])
                        for group in groups))

    def is_up(self, number: int) -> bool:
        """Tell whether an OSD is there, as far as the cluster knows."""
        return any(osd['up'] for osd in self.ceph('osd', 'dump')['osds']
                   if osd['osd'] == number)

    def wait_down(self, number: int) -> None:
        """Wait until the cluster has noticed that an OSD is away."""
        self._wait_for('mon.a', lambda: not self.is_up(number))

    def set_quota(self, size: int) -> None:
        """Let the pool keep ``size`` bytes at most; 0 is without a limit.

        It takes seconds until the cluster notices that the pool is full:
        :meth:`wait_full`.  With 0, returns when it takes data again.
        """
        self._harmed = True
        self.ceph('osd', 'pool', 'set-quota', self.pool, 'max_bytes',
                  str(size))
        if size == 0:
            self._wait_for('mon.a', lambda: not self.is_full())

    def is_full(self) -> bool:
        """Tell whether the pool takes no more because of its quota."""
        return any('full' in pool['flags_names'].split(',')
                   for pool in self.ceph('osd', 'dump')['pools']
                   if pool['pool_name'] == self.pool)

    def wait_full(self) -> None:
        """Wait until the pool takes no more because of its quota."""
        self._wait_for('mgr.x', self.is_full)

    def ceph(self, *words: str, timeout: float = PATIENCE) -> Any:
        """Run the command ``ceph`` and return its answer, from JSON.

        None if it answers nothing.

        :param timeout: seconds
        :raises processes.ProcessFailed: with all that it said
        """
        return self._client('ceph', '-f', 'json', '--connect-timeout',
                            str(int(timeout)), *words, timeout=timeout)

    def rbd(self, *words: str, json_output: bool = False,
            timeout: float = PATIENCE) -> Any:
        """Run the command ``rbd`` as ``client.admin``.

        :param json_output: return its answer, from JSON
        """
        form = ['--format', 'json'] if json_output else []
        return self._client('rbd', *words, *form, timeout=timeout,
                            parse=json_output)

    def _client(self, name: str, *words: str, timeout: float,
                parse: bool = True) -> Any:
        said = processes.check(
            [prerequisites.command(name), '--conf', str(self.conf), *words],
            timeout)
        return json.loads(said) if parse and said.strip() else None

    def _run(self, name: str, *words: str) -> None:
        processes.check([prerequisites.command(name), *words])

    def _status(self) -> Any:
        """Return the cluster's status, or None if nobody tells it."""
        try:
            return self.ceph('status', timeout=15)
        except (processes.ProcessFailed, subprocess.TimeoutExpired):
            return None

    def _wait_for(self, needed: str, question: Any) -> None:
        """Wait for something, as long as the daemons live that it needs.

        :param needed: the daemon, or the beginning of the names of several
        """
        def answer() -> bool:
            dead = [name for name, daemon in self._daemons.items()
                    if name.startswith(needed) and not daemon.running]
            if dead:
                raise processes.ProcessFailed(
                    f'{dead[0]} does not run:\n{self._tail(dead[0])}')
            return bool(question())

        try:
            processes.poll(answer, 'Ceph', PATIENCE)
        except TimeoutError as exc:
            raise TimeoutError(
                f'Ceph is not where it should be after {PATIENCE} s; its '
                f'status is {json.dumps(self._status())}') from exc


@functools.cache
def shared() -> Cluster:
    """Return the cluster of this process, started when first asked for.

    Whoever does harm to it mends it again before others use it.
    """
    directory = Path(tempfile.mkdtemp(prefix='ceph-'))
    cluster = Cluster(directory)
    atexit.register(_clean_up, cluster, os.getpid())
    cluster.start()
    return cluster


def _clean_up(cluster: Cluster, pid: int) -> None:
    # A child that this process forked must not take it away.
    if pid == os.getpid():
        cluster.stop(kill=True)
        shutil.rmtree(cluster.directory, ignore_errors=True)
