"""The ceph engine: images in an RBD pool, whose copies Ceph keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import logging
import time
from typing import Any
import uuid

from easystack_image import exceptions
from easystack_image.blockstore import address
from easystack_image.blockstore import digest
from easystack_image.blockstore import engine
from easystack_image.blockstore import pipeline
from easystack_image.blockstore import validate
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import damage
from easystack_image.blockstore.ceph import healer as healer_module
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import mending
from easystack_image.blockstore.ceph import pool as pool_module
from easystack_image.blockstore.ceph import reader as reader_module
from easystack_image.blockstore.ceph import removal
from easystack_image.blockstore.ceph import scrub
from easystack_image.blockstore.ceph import settings as settings_module
from easystack_image.blockstore.ceph import sweep
from easystack_image.blockstore.ceph import verify
from easystack_image.blockstore.ceph import writer
from easystack_image.blockstore.ceph import zeromap
from easystack_image.blockstore.local import background
from easystack_image.blockstore.local import checksums
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)

#: Seconds in which :meth:`CephEngine.problems` answers.
LOOK = 10.0


class CephEngine(engine.Engine):
    """See :class:`easystack_image.blockstore.engine.Engine`.

    A "device" is one of the copies that the pool keeps of everything: copy
    number 2 in the pool ``images`` is on ``images/2``.

    Memory per transfer: six buffers of 4 MiB and ``queue_depth`` writes of
    4 MiB for an upload, ``queue_depth`` reads of 1 MiB for a download, and 4
    bytes per MiB of the image for both; librados has copies of what is under
    way.
    """

    def __init__(self, settings: settings_module.Settings) -> None:
        """Describe the engine; nothing is touched before :meth:`start`."""
        self.settings = settings
        self.copies = settings.copies
        self.min_copies = settings.min_copies
        self._connection = connection.Connection(settings)
        self._store_id: str | None = None
        self._verifier = verify.Verifier(self._connection.cluster)
        self.sweeper = sweep.Sweeper(self._connection.cluster)
        self.scrubber = scrub.Scrubber(self._connection.cluster,
                                       self._verifier)
        self._background = background.Background(
            self._verifier, sweep.Turns(
                self.sweeper, self._connection.cluster,
                settings.sweep_interval), settings.sweep_interval)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> CephEngine:
        """See :meth:`~easystack_image.blockstore.engine.Engine.from_options`.

        Takes the fields of
        :class:`~easystack_image.blockstore.ceph.settings.Settings`, those
        that are Ceph's alone with ``ceph_`` before them.
        """
        return cls(settings_module.Settings.from_options(options))

    def start(self) -> None:
        """See :meth:`easystack_image.blockstore.engine.Engine.start`.

        The connection is closed again, so that the process may fork.
        """
        try:
            cluster = self._connection.cluster()
            pool = pool_module.look(cluster)
            self._store_id = str(uuid.UUID(cluster.fsid))
        except exceptions.DeviceError as error:
            raise exceptions.ConfigurationError(
                f'{error}: check easystack_block_ceph_pool, _user and _conf, '
                "the user's key, and whether the cluster is up") from error
        finally:
            self._connection.close()
        lacking = pool_module.promises(pool, self.settings)
        if lacking:
            raise exceptions.ConfigurationError(
                '; '.join(problem.message for problem in lacking))

    @property
    def store_id(self) -> str:
        """The UUID of the cluster."""
        if self._store_id is None:
            raise exceptions.BlockStoreError('the engine is not started')
        return self._store_id

    @property
    def url_prefix(self) -> str:
        """How the URI of every image in the pool begins."""
        return address.rbd_prefix(self.store_id, self.settings.pool)

    def address_of(self, info: engine.ImageInfo) -> address.Rbd:
        """Return where an image is: glance_store's own ``rbd://`` URI."""
        return address.Rbd(self.store_id, self.settings.pool, info.image_id)

    def has(self, place: address.Place) -> bool:
        """See :meth:`easystack_image.blockstore.engine.Engine.has`."""
        return isinstance(place, address.Rbd) and (
            (place.store_id, place.pool)
            == (self.store_id, self.settings.pool))

    def is_foreign(self, place: address.Place) -> bool:
        """See :meth:`easystack_image.blockstore.engine.Engine.is_foreign`.

        Nova makes images of servers in the pool, without copying.
        """
        if not self.has(place):
            return False
        with _asking(place.image_id):
            try:
                found = self._find(place.image_id)
            except exceptions.ImageNotFound:
                return False
            images.close(found)
            return found.manifest is None and not found.damage

    def write(self, image_id: str, source: engine.Source,
              size: int | None = None, algorithm: str = 'sha512',
              sink: engine.Sink | None = None) -> engine.ImageInfo:
        """See :meth:`easystack_image.blockstore.engine.Engine.write`."""
        image_id = validate.canonical_uuid(image_id)
        validate.hash_algorithm(algorithm)
        if size is not None:
            validate.byte_count(size, 'size')
        self._ensure_background()
        # Whole microseconds, as the manifest keeps them.
        created_at = time.time_ns() // 1000 / 1_000_000
        upload = layout.Upload(image_id, str(uuid.uuid4()))
        with self._writing(image_id):
            cluster = self._connection.cluster()
            if images.exists(cluster, image_id):
                raise exceptions.ImageExists(
                    f'image {image_id} is in this store already')
            transfer = writer.Upload(cluster, upload)
            try:
                transfer.begin(size)
                manifest, zeros = self._receive(
                    transfer, upload, source, size, algorithm, sink,
                    created_at)
                packed = manifest_module.pack(manifest)
                transfer.seal(manifest.size, packed + zeros.pack(packed))
                transfer.commit()
            finally:
                transfer.end()
        return copying.info_of(manifest)

    @contextlib.contextmanager
    def _writing(self, image_id: str) -> Iterator[None]:
        """Say of an image that it cannot be stored, if the cluster fails."""
        try:
            with _translated():
                yield
        except exceptions.DeviceError as error:
            if error.errno in removal.FULL:
                raise exceptions.NoRoom(
                    f'image {image_id} cannot be written', [error],
                    self._no_room()) from error
            raise exceptions.NotEnoughCopies(
                f'image {image_id} cannot be written', [error]) from error

    def _no_room(self) -> str:
        """Return why the pool takes no more."""
        try:
            return pool_module.full(
                pool_module.look(self._connection.cluster()))
        except exceptions.DeviceError:
            return f'pool {self.settings.pool} is full'

    def _receive(self, transfer: writer.Upload, upload: layout.Upload,
                 source: engine.Source, size: int | None, algorithm: str,
                 sink: engine.Sink | None,
                 created_at: float,
                 ) -> tuple[manifest_module.Manifest, zeromap.ZeroMap]:
        """Read the source into the pool; return what the image must be."""
        buffers = pipeline.BufferPool()
        table, zeros = checksums.Checksums(), zeromap.ZeroMap()
        followers = digest.Followers(buffers, size, algorithm, sink)
        received, more = 0, True
        try:
            while more:
                chunk = pipeline.next_buffer(buffers, [])
                try:
                    chunk.offset = received
                    more = pipeline.fill(chunk, source, buffers.size)
                    received += chunk.length
                    followers.feed(chunk)
                    runs = table.add(chunk.data)
                    zeros.add(chunk.length, runs)
                    transfer.write(chunk, runs)
                finally:
                    chunk.release()
            followers.finish(received)
        finally:
            followers.close()
        return manifest_module.Manifest(
            image_id=upload.image_id, generation=upload.generation,
            store_id=self.store_id, size=received, created_at=created_at,
            md5=followers.md5.digest(), algorithm=algorithm,
            multihash=followers.multihash.digest(),
            checksums=table.pack()), zeros

    def _find(self, image_id: str,
              generation: str | None = None) -> images.Found:
        """Return a stored image, open; call it within :func:`_asking`."""
        return images.find(self._connection.cluster(), image_id, generation)

    def info(self, image_id: str,
             generation: str | None = None) -> engine.ImageInfo:
        """See :meth:`easystack_image.blockstore.engine.Engine.info`.

        Of an image that glance_store's rbd driver wrote, no digests are
        known.
        """
        image_id, generation = _canonical(image_id, generation)
        with _asking(image_id):
            found = self._find(image_id, generation)
            images.close(found)
            return found.info()

    def open(self, image_id: str, offset: int = 0, length: int | None = None,
             generation: str | None = None) -> engine.Reader:
        """See :meth:`easystack_image.blockstore.engine.Engine.open`."""
        image_id, generation = _canonical(image_id, generation)
        validate.byte_count(offset, 'offset')
        if length is not None:
            validate.byte_count(length, 'length')
        self._ensure_background()
        with _asking(image_id):
            found = self._find(image_id, generation)
            upload = found.upload
            try:
                reader = reader_module.CephReader(
                    found, offset, length, lambda: self._notice(upload),
                    mending.rescue)
            except BaseException:
                images.close(found)
                raise
            try:
                reader.prefetch()
            except BaseException:
                reader.close()
                raise
            return reader

    def _notice(self, upload: layout.Upload) -> None:
        """Have an image verified, now or by whoever finds its mark."""
        if self.settings.self_repair:
            self._background.notice(upload)
            return
        try:
            self._verifier.mark(upload)
        except exceptions.DeviceError as error:
            LOG.error('Image %(image)s is damaged, and that could not be '
                      'noted: %(error)s',
                      {'image': upload.image_id, 'error': error})

    def _ensure_background(self) -> None:
        if self.settings.self_repair:
            self._background.ensure()

    def delete(self, image_id: str, generation: str | None = None) -> None:
        """See :meth:`easystack_image.blockstore.engine.Engine.delete`.

        It is no image any more when this returns.  Removing its data goes on
        if that takes longer than the time limit.
        """
        image_id, generation = _canonical(image_id, generation)
        with _asking(image_id):
            cluster = self._connection.cluster()
            gone: list[layout.Upload] = []
            try:
                name, upload = cluster.run(lambda: removal.retire(
                    cluster, image_id, generation, gone.append))
            except bindings.rbd().ImageNotFound as error:
                raise images.absence(image_id) from error
            except exceptions.DeviceError as error:
                if not gone:
                    raise
                # It is no image any more, whatever else takes too long.
                _tell_rest(image_id, error)
                return
            try:
                cluster.run(lambda: removal.purge(cluster, name, upload),
                            self.settings.timeout)
            except (exceptions.BlockStoreError,
                    bindings.rbd().Error) as error:
                _tell_rest(image_id, error)

    def list_images(self) -> Iterator[str]:
        """See :meth:`easystack_image.blockstore.engine.Engine.list_images`.

        Told by the names of RBD images: those of other drivers, too.
        """
        with _asking('*'):
            names = images.names(self._connection.cluster())
        yield from filter(layout.is_image_id, names)

    def list_copies(self, image_id: str,
                    verify: bool = False) -> list[engine.Copy]:
        """See :meth:`easystack_image.blockstore.engine.Engine.list_copies`.

        Tells what the cluster says of a sample of the image's objects.

        :param verify: read all of the image, from whichever copies Ceph
            reads
        """
        image_id = validate.canonical_uuid(image_id)
        with _asking(image_id):
            cluster = self._connection.cluster()
            with images.found(cluster, image_id) as found:
                copies = pool_module.copies(
                    cluster, pool_module.look(cluster),
                    self._verifier.sample(found), self._lacking(cluster))
            fault = found.damage
            if verify and not fault:
                fault = self._verifier.read(image_id).fault
            elif not fault:
                known = self._verifier.attempt(image_id)
                fault = known.reason if known else ''
            verified_at = (0.0 if found.manifest is None else
                           self._verifier.verified_at(found.upload))
            return [_describe(copy, found, fault, verified_at)
                    for copy in copies]

    def _lacking(self, cluster: connection.Cluster) -> frozenset[str]:
        try:
            return pool_module.groups(cluster, pool_module.LACKING)
        except exceptions.DeviceError as error:
            # The acting sets tell most of it.
            LOG.warning('It cannot be told which placement groups are '
                        'degraded: %s', error)
            return frozenset()

    def repair(self, image_id: str) -> list[engine.Copy]:
        """See :meth:`easystack_image.blockstore.engine.Engine.repair`.

        Ceph makes up for missing copies by itself, and replaces those that
        it finds bad when they are read.  What only our checksums tell is
        restored from another copy, or left to Ceph.
        """
        image_id = validate.canonical_uuid(image_id)
        with _asking(image_id):
            self._verifier.repair(image_id)
        return self.list_copies(image_id)

    def healer(self) -> healer_module.Healer:
        """Return what looks after all images while nobody looks."""
        return healer_module.Healer(self._connection, self.settings,
                                    self._verifier, self.sweeper,
                                    self.scrubber)

    def in_need(self) -> dict[str, tuple[str, bool]]:
        """Return the images that need a repair.

        :returns: why, and whether one was tried in vain, by id
        """
        with _asking('*'):
            needs = {upload.image_id: ('it was found damaged when it was '
                                       'read, or somebody asked for it',
                                       False)
                     for upload in self._verifier.marked()}
            needs |= {upload.image_id: (entry.attempt.reason, True)
                      for upload, entry in damage.entries(
                          self._connection.cluster()).items()}
            return needs

    def request_repair(self, image_id: str) -> None:
        """Note a request; see the base class.

        Whoever serves images from the pool and finds the mark does it.
        """
        image_id = validate.canonical_uuid(image_id)
        with _asking(image_id):
            found = self._find(image_id)
            images.close(found)
            self._verifier.mark(found.upload, anew=True)
        if self.settings.self_repair:
            self._background.notice(found.upload, again=True)

    def repair_requested_at(self, image_id: str) -> float | None:
        """See the base class; that is the time of the mark."""
        image_id = validate.canonical_uuid(image_id)
        with _asking(image_id):
            return self._verifier.marked_at(image_id)

    def repair_attempt(self, image_id: str) -> engine.RepairAttempt | None:
        """See the base class; that is what the book of damaged ones says."""
        image_id = validate.canonical_uuid(image_id)
        with _asking(image_id):
            asked = self._verifier.marked_at(image_id)
            attempt = self._verifier.attempt(image_id)
        if asked is None or attempt is None or attempt.ended_at < asked:
            return None
        return attempt

    def problems(self) -> list[engine.Problem]:
        """See :meth:`easystack_image.blockstore.engine.Engine.problems`."""
        what, advice = 'cluster-unreachable', (
            ': look at the monitors ("ceph status"), the network and the key')
        try:
            return timed.call(self._look, LOOK, 'ceph-look')
        except TimeoutError:
            reason = f'the cluster did not answer within {LOOK:g} s'
        except exceptions.DeviceError as error:
            reason = str(error)
        except exceptions.ConfigurationError as error:
            what, reason, advice = 'engine-not-installed', str(error), ''
        return [engine.Problem(engine.Severity.CRITICAL, what,
                               self.settings.pool, reason + advice, True)]

    def _look(self) -> list[engine.Problem]:
        cluster = self._connection.cluster()
        return [*pool_module.assess(cluster), *damage.problems(cluster)]

    def devices(self) -> list[engine.DeviceInfo]:
        """See :meth:`easystack_image.blockstore.engine.Engine.devices`.

        The copies that the pool keeps of everything; for each, the room that
        the pool has for images.
        """
        total = free = 0
        reason = ''
        count = self.copies
        try:
            cluster = self._connection.cluster()
            count = pool_module.look(cluster).size
            total, free = pool_module.room(cluster)
        except exceptions.DeviceError as error:
            reason = str(error)
        return [engine.DeviceInfo(
            pool_module.device(self.settings.pool, number), '', 1.0,
            not reason, total, free, reason) for number in range(count)]

    def close(self) -> None:
        """See :meth:`easystack_image.blockstore.engine.Engine.close`."""
        self._background.stop()
        self._connection.close()


def _tell_rest(image_id: str, error: Exception) -> None:
    LOG.warning('Image %(image)s is deleted, and not all of its data is '
                'removed yet (%(error)s); a sweep looks after it.',
                {'image': image_id, 'error': error})


def _canonical(image_id: str,
               generation: str | None) -> tuple[str, str | None]:
    image_id = validate.canonical_uuid(image_id)
    if generation is not None:
        generation = validate.canonical_uuid(generation, 'generation')
    return image_id, generation


def _describe(copy: engine.Copy, found: images.Found, fault: str,
              verified_at: float) -> engine.Copy:
    """Add what is known of an image to what is known of its copy."""
    state, reason = copy.state, copy.reason
    if fault:
        state, reason = engine.CopyState.DAMAGED, fault
    elif found.manifest is None and not reason:
        reason = 'written by another driver, so its bytes cannot be verified'
    there = copy.state is engine.CopyState.GOOD
    return dataclasses.replace(copy, state=state, reason=reason,
                               size=found.size if there else 0,
                               verified_at=verified_at)


@contextlib.contextmanager
def _asking(image_id: str) -> Iterator[None]:
    """Say of an image that it cannot be had, if the cluster cannot."""
    try:
        with _translated():
            yield
    except exceptions.DeviceError as error:
        raise exceptions.ImageUnavailable(
            f'image {image_id}: {error}') from error


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of Ceph's modules that nobody expected into ours."""
    try:
        yield
    except exceptions.BlockStoreError:
        raise
    except Exception as error:
        if not isinstance(error, (bindings.rados().Error,
                                  bindings.rbd().Error)):
            raise
        raise exceptions.DeviceError(
            'the cluster', str(error), getattr(error, 'errno', None),
            ) from error
