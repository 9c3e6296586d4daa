"""Daemons die, the pool is full, processes are killed."""

from __future__ import annotations

from collections.abc import Callable
import concurrent.futures
import subprocess
import time
import uuid

from glance_store import exceptions as store_exceptions

from easystack_image.blockstore.ceph import connection
from tests.ceph import base
from tests.ceph import child
from tests.faults import base as faults
from tests.functional import processes

MIB = base.MIB
#: More than is under way at a time.
SIZE = 96 * MIB + 4321
#: Seconds that one operation of the cluster may take.
TIMEOUT = 2
#: Seconds within which any call must end that cannot succeed: those that an
#: operation of several steps may take, for the transfer and for each step of
#: cleaning up, and what a busy machine adds.
LIMIT = 3 * TIMEOUT * 4 + 30


class FaultCase(base.StoreCase):
    """A store that is patient, and one that soon says what is wrong."""

    def setUp(self) -> None:
        super().setUp()
        self.hasty = self.easystack(ceph_timeout=TIMEOUT)

    def check_usable(self) -> None:
        """See that uploads work again, with no restart."""
        data = base.content(MIB, seed=99)
        uri = self.hasty.upload(str(uuid.uuid4()), faults.Scripted(data, {}),
                                MIB)
        self.check_image(uri, data, self.hasty)
        self.hasty.delete(uri)

    def check_swept(self, stays: set[str] | None = None) -> None:
        """See that a sweep leaves nothing of what was not acknowledged.

        :param stays: objects that belong to images
        """
        stays = self.before if stays is None else stays

        def clean() -> bool:
            self.sweep(self.hasty)
            return not self.objects() - stays

        # A watch of somebody who is gone is forgotten after a while.
        processes.poll(clean, f'{self.objects() - stays} being swept', 120,
                       interval=2)


class OsdTest(FaultCase):

    def test_one_lost_in_mid_upload(self) -> None:
        data = base.content(SIZE)
        with self.within(LIMIT):
            uri = self.upload(data, {
                SIZE // 2: lambda: self.cluster.kill_osd(0)})
        self.check_image(uri, data)
        self.cluster.mend()
        self.check_image(uri, data)

    def test_one_lost_in_mid_download(self) -> None:
        data = base.content(SIZE)
        uri = self.upload(data)
        with self.within(LIMIT), self.client.opened(uri) as pieces:
            received = bytearray(next(pieces))
            self.cluster.kill_osd(1)
            faults.drain(pieces, received)
        self.assertTrue(received == data)


class Fault7TooFewOsdsTest(FaultCase):
    """With the old driver calls hung, or raised a raw ``rbd.Timeout``."""

    def _two_lost(self) -> None:
        self.cluster.kill_osd(0)
        self.cluster.kill_osd(2)

    def _check_fails(self, events: dict[int, Callable[[], object]],
                     known: bool) -> None:
        """See an upload fail in time; and succeed when all is well again."""
        data = base.content(SIZE)
        image_id = str(uuid.uuid4())
        with self.within(LIMIT):
            self.assertRaises(
                (store_exceptions.StorageWriteDenied,
                 store_exceptions.TimeoutError,
                 store_exceptions.RemoteServiceUnavailable),
                self.hasty.upload, image_id, faults.Scripted(data, events),
                len(data) if known else 0)
        self.cluster.mend()
        self.assertRaises(
            store_exceptions.NotFound, self.client.size,
            f'rbd://{self.cluster.fsid}/{self.cluster.pool}/{image_id}/snap')
        uri = self.hasty.upload(image_id, faults.Scripted(data, {}),
                                 len(data))
        self.check_image(uri, data)
        self.client.delete(uri)
        self.check_swept()

    def test_two_lost_before_the_upload(self) -> None:
        self._two_lost()
        self._check_fails({}, known=True)

    def test_two_lost_in_mid_upload(self) -> None:
        self._check_fails({SIZE // 2: self._two_lost}, known=True)

    def test_two_lost_at_the_end_of_an_upload(self) -> None:
        self._check_fails({SIZE: self._two_lost}, known=False)

    def test_two_lost_in_mid_download(self) -> None:
        data = base.content(SIZE)
        uri = self.upload(data)
        received = bytearray()
        with self.within(LIMIT), self.hasty.opened(uri) as pieces:
            received += next(pieces)
            self._two_lost()
            self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                              faults.drain, pieces, received)
        self.assertTrue(data.startswith(received))
        with self.within(LIMIT):
            self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                              self.hasty.download, uri)
        # Glance answers 503 to a DELETE on this error only, and forgets the
        # image on others.
        with self.within(LIMIT):
            self.assertRaises(store_exceptions.TimeoutError,
                              self.hasty.delete, uri)
        self.cluster.mend()
        self.check_image(uri, data)


class HangTest(FaultCase):
    """An OSD that hangs keeps its connections, and answers nothing."""

    def test_patient_store_goes_on(self) -> None:
        """Once the cluster has noticed, the others do."""
        # Seconds until the others take one for dead; 20 by default.
        self.addCleanup(self.cluster.ceph, 'config', 'rm', 'global',
                        'osd_heartbeat_grace')
        self.addCleanup(self.cluster.mend)
        self.cluster.ceph('config', 'set', 'global', 'osd_heartbeat_grace',
                          '8')
        patient = self.easystack(ceph_timeout=60)
        data = base.content(SIZE)
        stored = self.upload(data)
        # Each OSD has the first copy of some objects of an image.
        uri = self.upload(data, {
            SIZE // 2: lambda: self.cluster.pause_osd(1)}, client=patient)
        self.assertFalse(self.cluster.is_up(1))
        self.check_image(uri, data, patient)
        patient.delete(stored)
        self.assertRaises(store_exceptions.NotFound, patient.size, stored)
        self.cluster.mend()
        self.check_image(uri, data, patient)

    def test_hasty_store_ends_in_time(self) -> None:
        """With errors on which users and Glance try again."""
        # So that nobody takes it for dead before the store gives up.
        self.addCleanup(self.cluster.ceph, 'osd', 'unset', 'nodown')
        self.cluster.ceph('osd', 'set', 'nodown')
        data = base.content(SIZE)
        uri = self.upload(data)
        self.check_image(uri, data, self.hasty)
        self.cluster.pause_osd(1)
        with self.within(LIMIT):
            self.assertRaises(store_exceptions.TimeoutError,
                              self.hasty.upload, str(uuid.uuid4()),
                              faults.Scripted(data, {}), len(data))
        with self.within(LIMIT):
            self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                              self.hasty.download, uri)
        # Either may be: its lists are in objects of which the others may
        # have the first copies.
        deleted = True
        with self.within(LIMIT):
            try:
                self.hasty.delete(uri)
            except store_exceptions.TimeoutError:
                deleted = False
        self.cluster.mend()
        if deleted:
            self.assertRaises(store_exceptions.NotFound, self.hasty.size, uri)
        else:
            self.check_image(uri, data, self.hasty)
            self.hasty.delete(uri)
        self.check_usable()
        self.check_swept()


class MonTest(FaultCase):

    def test_lost_for_a_while_in_mid_upload(self) -> None:
        data = base.content(SIZE)
        with self.within(LIMIT):
            uri = self.upload(data, {
                SIZE // 4: self.cluster.kill_mon,
                SIZE // 4 * 3: self.cluster.start_mon})
        self.check_image(uri, data)

    def test_lost_in_mid_download(self) -> None:
        data = base.content(SIZE)
        uri = self.upload(data)
        with self.within(LIMIT), self.client.opened(uri) as pieces:
            received = bytearray(next(pieces))
            self.cluster.kill_mon()
            faults.drain(pieces, received)
        self.assertTrue(received == data)
        # Once connected, the OSDs are all that it needs.
        with self.within(LIMIT):
            self.assertEqual(data[5:1000],
                             self.client.download(uri, 5, 995))

    def test_lost_in_mid_upload_for_good(self) -> None:
        data = base.content(SIZE)
        image_id = str(uuid.uuid4())
        with self.within(LIMIT):
            # Only the monitor gives numbers to snapshots.
            self.assertRaises(
                (store_exceptions.StorageWriteDenied,
                 store_exceptions.TimeoutError,
                 store_exceptions.RemoteServiceUnavailable),
                self.hasty.upload, image_id,
                faults.Scripted(data, {SIZE // 2: self.cluster.kill_mon}),
                len(data))
        self.cluster.mend()
        self.check_usable()
        self.check_swept()

    def test_calls_share_one_attempt_to_connect(self) -> None:
        """They do not queue, each with an attempt and a time limit."""
        data = base.content(MIB)
        uri = self.upload(data)
        self.cluster.kill_mon()
        calls = 16
        with concurrent.futures.ThreadPoolExecutor(calls) as pool, \
                self.within(TIMEOUT * calls / 2):
            for future in [pool.submit(self.hasty.download, uri)
                           for _ in range(calls)]:
                self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                                  future.result)
        self.cluster.mend()
        # The failure of the last attempt counts for a while.
        time.sleep(connection.HOLD_OFF)
        self.check_image(uri, data, self.hasty)

    def test_lost_before_the_start(self) -> None:
        self.cluster.kill_mon()
        with self.within(LIMIT):
            error = self.assertRaises(
                store_exceptions.BadStoreConfiguration, self.easystack,
                ceph_timeout=TIMEOUT)
        self.assertIn(str(self.cluster.conf), str(error))


class Fault7FullTest(FaultCase):
    """With the old driver every call hung; StorageFull was never seen."""

    def _fill(self) -> None:
        self.cluster.set_quota(1)
        self.cluster.wait_full()

    def _check_full(self, data: bytes,
                    events: dict[int, Callable[[], object]],
                    known: bool) -> None:
        with self.within(LIMIT):
            error = self.assertRaises(
                store_exceptions.StorageFull, self.hasty.upload,
                str(uuid.uuid4()), faults.Scripted(data, events),
                len(data) if known else 0)
        self.assertIn(f'pool {self.cluster.pool} is at its quota of 1 bytes',
                      str(error))

    def test_full(self) -> None:
        data = base.content()
        stored = self.upload(data)
        another = self.upload(data)
        before = self.objects()
        # It takes seconds to be noticed; the source waits for that.
        self._check_full(base.content(SIZE), {SIZE // 2: self._fill}, True)
        self._check_full(data, {}, known=True)
        self._check_full(data, {}, known=False)
        # Nothing takes up room until the pool is mended, either.
        self.assertEqual(set(), self.objects() - before)
        self.check_image(stored, data)
        with self.within(LIMIT):
            self.hasty.delete(another)
        self.assertRaises(store_exceptions.NotFound, self.client.size,
                          another)
        self.cluster.mend()
        self.check_image(stored, data)
        self.check_usable()


class Fault5KillTest(FaultCase):
    """kill -9 in mid-upload, after which the old driver left the image.

    Glance itself is killed in ``test_functional``.
    """

    def _begin(self, image_id: str, data: bytes) -> subprocess.Popen[bytes]:
        """Begin an upload in another process, and wait for half of it."""
        process = child.start(self.cluster, image_id)
        for pipe in (process.stdin, process.stdout):
            self.addCleanup(pipe.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        before = self.objects()
        process.stdin.write(data[:len(data) // 2])
        process.stdin.flush()
        processes.poll(lambda: len([
            name for name in self.objects() - before
            if name.startswith('rbd_data.')]) >= 3, 'the upload')
        return process

    def test_leftovers_go_and_live_uploads_stay(self) -> None:
        data = base.content(64 * MIB)
        dead_id, live_id = str(uuid.uuid4()), str(uuid.uuid4())
        live = self._begin(live_id, data)
        belongs = self.objects()
        dead = self._begin(dead_id, data)
        dead.kill()
        dead.wait()
        self.assertNotEqual(set(), self.objects() - belongs)
        uri = f'rbd://{self.cluster.fsid}/{self.cluster.pool}/{dead_id}/snap'
        self.assertRaises(store_exceptions.NotFound, self.client.size, uri)

        # Under the same id, at once, however the leftovers are.
        self.assertEqual(uri, self.hasty.upload(
            dead_id, faults.Scripted(data, {}), len(data)))
        self.check_image(uri, data)
        self.client.delete(uri)

        self.check_swept(belongs)
        self.assertEqual(set(), belongs - self.objects())
        live.stdin.write(data[len(data) // 2:])
        live.stdin.close()
        uri = live.stdout.readline().decode().strip()
        self.assertIn(live_id, uri)
        self.addCleanup(self._remove, self.client, uri)
        self.check_image(uri, data)
