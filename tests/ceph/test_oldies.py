"""Faults that glance_store's rbd driver has, and this one has not.

Each was seen with glance_store 5.7.0; the docstrings say how.  There are
seven, and the classes have their numbers.  Of the seventh, and of a process
that is killed (which is part of the fifth), the tests are in ``test_faults``:
``Fault7TooFewOsdsTest``, ``Fault7FullTest`` and ``Fault5KillTest``.
"""

from __future__ import annotations

import concurrent.futures
import threading
import uuid

from glance_store import exceptions as store_exceptions
import rbd

from tests.ceph import base
from tests.ceph import cluster as cluster_module
from tests.faults import base as faults

MIB = base.MIB


class Slow:
    """A source that gives as little as many sockets do.

    :param piece: bytes that one read returns at most
    """

    def __init__(self, data: bytes, piece: int = 64 << 10) -> None:
        self._data = memoryview(data)
        self._piece = piece

    def read(self, size: int, /) -> bytes:
        """Return what comes next."""
        given = bytes(self._data[:min(size, self._piece)])
        self._data = self._data[len(given):]
        return given


class Fault1SizeTest(base.StoreCase):
    """Its second upload of unknown size failed: rbd.InvalidArgument."""

    def test_unknown_size_again_and_again(self) -> None:
        for number, size in enumerate((100, 100, base.SIZE, 1, base.SIZE)):
            data = base.content(size, seed=number)
            self.check_image(self.upload(data, known=False), data)

    def test_unknown_size_at_once(self) -> None:
        together = threading.Barrier(4)

        def upload(number: int) -> str:
            data = base.content(base.SIZE + number * MIB, seed=number)
            # All have begun, and none has ended.
            return self.upload(data, {MIB: lambda: together.wait(120)},
                               known=False)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            uris = list(pool.map(upload, range(4)))
        for number, uri in enumerate(uris):
            self.check_image(uri, base.content(
                base.SIZE + number * MIB, seed=number))


class Fault2RangeTest(base.StoreCase):
    """It raised StoreRandomGetNotSupported."""

    def test_ranges(self) -> None:
        data = base.content()
        uri = self.upload(data)
        for offset, length in (
                (0, 1), (0, base.SIZE), (1, 100), (4 * MIB - 7, 14),
                (8 * MIB - 7, 14), (3 * MIB, 13 * MIB + 3),
                (base.SIZE - 1, 1), (base.SIZE - 5, 100)):
            self.assertTrue(
                self.client.download(uri, offset, length)
                == data[offset:offset + length], (offset, length))
        self.assertTrue(self.client.download(uri, 5) == data[5:])

    def test_a_range_costs_no_more_than_it_is_long(self) -> None:
        uri = self.upload(base.content(64 * MIB))
        before = reads(self.cluster)
        self.client.download(uri, 33 * MIB, 1000)
        self.assertLess(reads(self.cluster) - before, 32 * MIB)


class Fault3ConnectionTest(base.StoreCase):
    """It made a new connection in each call, and two in ``get``."""

    def _number(self) -> int:
        """Make one more connection, and return the monitor's number of it.

        From one to the next, as many numbers are used up each time.
        """
        number: int = self.connect().get_instance_id()
        return number

    def test_one_connection_serves_all_calls(self) -> None:
        data = base.content(MIB)
        self.check_image(self.upload(data), data)
        first, second = self._number(), self._number()
        for known in (True, False):
            uri = self.client.upload(
                str(uuid.uuid4()), faults.Scripted(data, {}),
                len(data) if known else 0)
            self.check_image(uri, data)
            self.assertEqual(data[5:10], self.client.download(uri, 5, 5))
            self.client.delete(uri)
            self.assertRaises(store_exceptions.NotFound, self.client.delete,
                              uri)
        self.assertEqual(second - first, self._number() - second)


class Fault4OptionTest(base.StoreCase):
    """Options that could not be left out, or were taken for others."""

    def test_user_unset(self) -> None:
        """It asked for the user "None", and could not connect."""
        client = self.easystack(ceph_user=None)
        data = base.content(1000)
        self.check_image(self.upload(data, client=client), data)

    def test_object_size(self) -> None:
        data = base.content(64 * MIB)
        for size in (1, 4, 32):
            client = self.easystack(ceph_object_size_mib=size)
            uri = self.upload(data, client=client)
            self.check_image(uri, data)
            with rbd.Image(self.pool(), uri.split('/')[4],
                           read_only=True) as image:
                self.assertEqual(size * MIB, image.stat()['obj_size'])

    def test_object_size_that_ceph_has_not(self) -> None:
        """64 failed in the first upload; 10 was 8 without a word."""
        for size in (10, 64):
            error = self.assertRaises(
                store_exceptions.BadStoreConfiguration, self.easystack,
                ceph_object_size_mib=size)
            self.assertIn('ceph_object_size_mib', str(error))


class Fault5InterruptedTest(base.StoreCase):
    """It left the image behind, whose deletion then took 25 s."""

    def test_whatever_the_source_raises(self) -> None:
        class Stop(BaseException):
            pass

        def stop() -> None:
            raise Stop

        data = base.content()
        for known in (True, False):
            image_id = str(uuid.uuid4())
            for offset in (0, MIB, base.SIZE):
                self.assertRaises(
                    Stop, self.client.upload, image_id,
                    faults.Scripted(data, {offset: stop}),
                    len(data) if known else 0)
                self.check_nothing_left()
            uri = self.client.upload(image_id, faults.Scripted(data, {}),
                                     len(data))
            self.check_image(uri, data)
            with self.within(20):
                self.client.delete(uri)
        self.check_nothing_left()


class Fault6ShortReadTest(base.StoreCase):
    """It wrote each piece by itself, and was six times slower."""

    def test_short_reads_cost_no_writes(self) -> None:
        data = base.content(64 * MIB)
        counts = []
        for piece in (len(data), 64 << 10):
            before = operations(self.cluster)
            uri = self.client.upload(str(uuid.uuid4()), Slow(data, piece),
                                     len(data))
            counts.append(operations(self.cluster) - before)
            self.check_image(uri, data)
            self.client.delete(uri)
        # There is always a little of the cluster's own.
        self.assertLess(counts[1], counts[0] * 1.5, counts)
        self.assertLess(counts[1], len(data) // (64 << 10), counts)


def _counters(cluster: cluster_module.Cluster, name: str) -> int:
    """Return the sum of a counter over all OSDs."""
    return sum(cluster.ceph('daemon', f'osd.{number}', 'perf', 'dump')
               ['osd'][name] for number in range(cluster_module.OSDS))


def operations(cluster: cluster_module.Cluster) -> int:
    """Return how many writes clients have made, since ever."""
    return _counters(cluster, 'op_w') + _counters(cluster, 'op_rw')


def reads(cluster: cluster_module.Cluster) -> int:
    """Return how many bytes clients have read, since ever."""
    return _counters(cluster, 'op_r_out_bytes')
