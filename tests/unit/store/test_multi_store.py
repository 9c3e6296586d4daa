"""Stores as Glance has them: several, found by name, shared by threads."""

from __future__ import annotations

from concurrent import futures
import io
import threading

import fixtures
import glance_store
from glance_store import exceptions as store_exceptions
from glance_store import location as store_location
from glance_store import multi_backend
from oslo_config import cfg

from easystack_image.store import driver
from tests.unit.store import base

THREADS = 8


class MultiStoreTest(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.sets = {'fast': base.shared_devices(0),
                     'cheap': base.shared_devices(1)}
        self.conf = self.start({
            'DEFAULT': {'enabled_backends':
                        'fast:easystack_block, cheap:easystack_block'},
            'glance_store': {'default_backend': 'cheap'},
            **{name: base.block_options(devices.paths)
               for name, devices in self.sets.items()}})

    def start(self, groups: dict[str, dict[str, object]]) -> cfg.ConfigOpts:
        """Do what Glance does when it starts."""
        conf = self.configuration(groups)
        conf.register_opt(cfg.DictOpt('enabled_backends'))
        self.useFixture(fixtures.MonkeyPatch(
            'glance_store.multi_backend.CONF', conf))
        self.useFixture(fixtures.MonkeyPatch(
            'glance_store.location.SCHEME_TO_CLS_BACKEND_MAP', {}))
        glance_store.register_store_opts(conf)
        glance_store.create_multi_stores(conf)
        for name in conf.enabled_backends:
            self.addCleanup(base.close, self.store(name))
        return conf

    @staticmethod
    def store(name: str) -> driver.Store:
        return multi_backend.get_store_from_store_identifier(name)

    def add(self, backend: str | None, data: bytes,
            context: object = None) -> str:
        """Store an image as Glance does; return its location."""
        uri, size, checksum, multihash, metadata = \
            multi_backend.add_with_multihash(
                self.conf, base.new_id(), io.BytesIO(data), len(data),
                backend, 'sha512', context=context)
        self.assertEqual((len(data), base.md5(data), base.sha512(data)),
                         (size, checksum, multihash))
        self.assertEqual({'store': backend or 'cheap'}, metadata)
        return uri

    def get(self, uri: str, backend: str, offset: int = 0,
            chunk_size: int | None = None) -> bytes:
        """Read an image as Glance does."""
        location = store_location.get_location_from_uri_and_backend(
            uri, backend, conf=self.conf)
        body, _ = self.store(backend).get(location, offset=offset,
                                          chunk_size=chunk_size)
        return b''.join(body)

    def test_two_stores(self) -> None:
        fast = self.add('fast', b'in the fast one')
        cheap = self.add('cheap', b'in the cheap one')
        self.assertEqual(b'in the fast one', self.get(fast, 'fast'))
        self.assertEqual(b'in the cheap one', self.get(cheap, 'cheap'))
        self.assertNotEqual(self.store('fast').url_prefix,
                            self.store('cheap').url_prefix)
        for uri, name in ((fast, 'fast'), (cheap, 'cheap')):
            self.assertTrue(uri.startswith(self.store(name).url_prefix))

    def test_same_image_in_both(self) -> None:
        """As copy-image makes it."""
        image_id = base.new_id()
        uris = {name: self.store(name).add(
            image_id, io.BytesIO(b'data'), 4, 'sha512')[0]
            for name in self.sets}
        multi_backend.delete(uris['fast'], 'fast')
        self.assertRaises(store_exceptions.NotFound, self.get, uris['fast'],
                          'fast')
        self.assertEqual(b'data', self.get(uris['cheap'], 'cheap'))

    def test_default_store(self) -> None:
        uri = self.add(None, b'data')
        self.assertEqual(b'data', self.get(uri, 'cheap'))

    def test_location_of_the_other_store(self) -> None:
        uri = self.add('fast', b'data')
        self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                          self.get, uri, 'cheap')
        self.assertRaises(store_exceptions.NotFound, multi_backend.delete,
                          uri, 'cheap')
        self.assertEqual(b'data', self.get(uri, 'fast'))

    def test_range(self) -> None:
        uri = self.add('fast', b'0123456789')
        self.assertEqual(b'345', self.get(uri, 'fast', 3, 3))

    def test_size_as_glance_asks_for_it(self) -> None:
        context = base.request()
        uri = self.add('fast', b'data', context)
        self.assertEqual(
            4, multi_backend.get_size_from_uri_and_backend(
                uri, 'fast', context=context))
        self.assertRaises(
            store_exceptions.BadStoreUri,
            multi_backend.get_size_from_uri_and_backend, uri, 'fast',
            context=base.request())

    def test_delete_without_a_store(self) -> None:
        """Nothing is deleted by guessing."""
        uri = self.add('fast', b'data')
        self.assertRaises(store_exceptions.NotFound, multi_backend.delete,
                          uri, None)
        self.assertEqual(b'data', self.get(uri, 'fast'))

    def test_one_store_cannot_work(self) -> None:
        """The other one can."""
        groups = {
            'DEFAULT': {'enabled_backends':
                        'bad:easystack_block, good:easystack_block'},
            'glance_store': {'default_backend': 'good'},
            'bad': base.block_options([]),
            'good': base.block_options(self.sets['fast'].paths)}
        self.conf = self.start(groups)
        self.assertIn('Store bad cannot be used', self.log.output)
        self.assertEqual(b'data', self.get(self.add('good', b'data'),
                                           'good'))
        self.assertRaises(store_exceptions.StoreAddDisabled, self.add,
                          'bad', b'data')

    def test_store_is_reused(self) -> None:
        self.assertIs(self.store('fast'), self.store('fast'))
        self.assertIsNot(self.store('fast'), self.store('cheap'))

    def test_weight_and_description(self) -> None:
        """Glance's own options of a store go on working."""
        self.conf.set_override('weight', 7, 'fast')
        self.assertEqual(7, multi_backend.get_store_weight('fast'))
        self.conf.set_override('store_description', 'quick', 'fast')
        self.assertEqual('quick', self.conf.fast.store_description)

    def test_threads(self) -> None:
        """One object serves all threads of a process, without mixing."""
        barrier = threading.Barrier(THREADS)

        def work(number: int) -> int:
            barrier.wait()
            rounds = 3
            for turn in range(rounds):
                data = base.content(5 * base.MIB + 1000 * number + turn,
                                    number)
                name = ('fast', 'cheap')[(number + turn) % 2]
                uri = self.add(name, data)
                self.assertEqual(data, self.get(uri, name))
                begin = 100_000 * number
                self.assertEqual(data[begin:begin + 99], self.get(
                    uri, name, begin, 99))
                multi_backend.delete(uri, name)
                self.assertRaises(store_exceptions.NotFound, self.get, uri,
                                  name)
            return rounds

        with futures.ThreadPoolExecutor(THREADS) as pool:
            done = list(pool.map(work, range(THREADS)))
        self.assertEqual([3] * THREADS, done)
        for devices in self.sets.values():
            self.assertEqual([], devices.leftovers())

    def test_threads_that_upload_the_same_image(self) -> None:
        """One wins; the others are told, and leave its data alone."""
        image_id = base.new_id()
        barrier = threading.Barrier(THREADS)

        def work(number: int) -> str | None:
            data = base.content(2 * base.MIB, number)
            barrier.wait()
            try:
                return self.store('fast').add(
                    image_id, io.BytesIO(data), len(data), 'sha512')[0]
            except store_exceptions.Duplicate:
                return None

        with futures.ThreadPoolExecutor(THREADS) as pool:
            answers = list(pool.map(work, range(THREADS)))
        winner, = (number for number, uri in enumerate(answers) if uri)
        self.assertEqual(base.content(2 * base.MIB, winner),
                         self.get(answers[winner] or '', 'fast'))
        self.assertEqual([], self.sets['fast'].leftovers())
