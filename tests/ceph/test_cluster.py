"""The cluster of the tests does what the tests rely on."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import uuid

import rados
import rbd

from tests.ceph import base
from tests.ceph import cluster as cluster_module
from tests.functional import processes

MIB = 1 << 20


def _listening(pid: int) -> Iterator[str]:
    """Yield the addresses that a process listens on, as the kernel has them.

    Hexadecimal, such as ``0100007F:5606``.
    """
    sockets = set()
    for link in Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets.add(os.readlink(link))
    for name in ('tcp', 'tcp6'):
        for line in Path(f'/proc/{pid}/net/{name}').read_text(
                ).splitlines()[1:]:
            fields = line.split()
            if fields[3] == '0A' and f'socket:[{fields[9]}]' in sockets:
                yield fields[1]


class ClusterTest(base.TestCase):

    def _image(self) -> str:
        """Create an image of one MiB; it is removed with the test."""
        pool = self.pool()
        name = str(uuid.uuid4())
        rbd.RBD().create(pool, name, MIB)
        self.addCleanup(rbd.RBD().remove, pool, name)
        with rbd.Image(pool, name) as image:
            image.write(b'x' * MIB, 0)
        return name

    def _read(self, name: str) -> bytes:
        with rbd.Image(self.pool(), name) as image:
            data: bytes = image.read(0, MIB)
        return data

    def test_three_copies_of_which_two_must_be_had(self) -> None:
        pool = self.cluster.ceph('osd', 'pool', 'get', self.cluster.pool,
                                 'all')
        self.assertEqual((3, 2), (pool['size'], pool['min_size']))
        name = self._image()
        with rbd.Image(self.pool(), name) as image:
            block = f'{image.stat()["block_name_prefix"]}.{0:016x}'
        places = self.cluster.ceph('osd', 'map', self.cluster.pool, block)
        self.assertEqual({0, 1, 2}, set(places['acting']))

    def test_fsid(self) -> None:
        self.assertEqual(self.cluster.fsid, self.connect().get_fsid())

    def test_the_user_has_no_other_pool(self) -> None:
        self.cluster.ceph('osd', 'pool', 'create', 'others', '1', '1')
        self.addCleanup(self.cluster.ceph, 'osd', 'pool', 'rm', 'others',
                        'others', '--yes-i-really-really-mean-it')
        others = self.connect().open_ioctx('others')
        self.addCleanup(others.close)
        self.assertRaises(rados.PermissionError, others.write_full,
                          'name', b'data')

    def test_nobody_else_can_reach_it(self) -> None:
        local = socket.inet_aton('127.0.0.1')[::-1].hex().upper()
        for pid in self.cluster.pids():
            addresses = list(_listening(pid))
            self.assertNotEqual([], addresses)
            for address in addresses:
                self.assertEqual(local, address.partition(':')[0])

    def test_an_osd_dies_and_returns(self) -> None:
        name = self._image()
        self.cluster.kill_osd(1)
        self.assertFalse(self.cluster.running('osd.1'))
        self.cluster.wait_down(1)
        self.assertEqual(b'x' * MIB, self._read(name))
        self.cluster.start_osd(1)
        self.cluster.wait_clean()
        self.assertTrue(self.cluster.running('osd.1'))

    def test_the_monitor_dies_and_returns(self) -> None:
        name = self._image()
        self.cluster.kill_mon()
        self.assertFalse(self.cluster.running('mon.a'))
        self.cluster.start_mon()
        self.assertEqual(b'x' * MIB, self._read(name))

    def test_full(self) -> None:
        self._image()
        self.cluster.set_quota(1)
        self.cluster.wait_full()
        pool = self.pool()
        # Others are kept waiting until there is room.
        pool.set_osdmap_full_try()
        self.assertRaises(rados.Error, pool.write_full, 'name', b'data')
        self.cluster.set_quota(0)
        pool.write_full('name', b'data')
        self.addCleanup(pool.remove_object, 'name')


class OwnClusterTest(base.TestCase):
    """One more cluster, beside the others'."""

    def test_a_cluster_ends_with_its_owner_and_goes_on_later(self) -> None:
        directory = self.temporary_directory()
        owner = subprocess.Popen(
            [sys.executable, '-c',
             'import pathlib, sys, time\n'
             'from tests.ceph import cluster\n'
             'own = cluster.Cluster(pathlib.Path(sys.argv[1]), 1 << 30)\n'
             'own.start()\n'
             'own.ceph("config-key", "set", "greeting", "hello")\n'
             'print("ready", flush=True)\n'
             'time.sleep(600)\n', str(directory)],
            env=processes.environment(), cwd=processes.ROOT,
            stdout=subprocess.PIPE)
        self.addCleanup(owner.stdout.close)
        self.addCleanup(owner.wait)
        self.addCleanup(owner.kill)
        self.assertEqual(b'ready\n', owner.stdout.readline())
        again = cluster_module.Cluster(directory)
        self.assertEqual(5, len(again.pids()))

        os.kill(owner.pid, signal.SIGKILL)
        processes.poll(lambda: not again.pids(), 'the end of the cluster')

        self.addCleanup(again.stop, kill=True)
        again.start()
        self.assertEqual(5, len(again.pids()))
        self.assertIn('greeting', again.ceph('config-key', 'ls'))
        again.stop()
        self.assertEqual([], again.pids())
        # And those who are not its own go on.
        self.assertEqual(5, len(self.cluster.pids()))
