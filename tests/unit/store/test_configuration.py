"""What a deployer may get wrong, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
import io
from pathlib import Path

import fixtures
from glance_store import capabilities
from glance_store import exceptions as store_exceptions

from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import device
from easystack_image.store import driver
from tests.unit.store import base


class CapabilitiesTest(base.StoreTestCase):

    def test_capabilities(self) -> None:
        masks = capabilities.BitMasks
        self.assertTrue(self.store.is_capable(
            masks.READ_RANDOM, masks.READ_OFFSET, masks.READ_CHUNK,
            masks.WRITE_ACCESS, masks.DRIVER_REUSABLE))
        self.assertFalse(self.store.is_capable(masks.WRITE_OFFSET))

    def test_location_class(self) -> None:
        self.assertIs(driver.StoreLocation,
                      self.store.get_store_location_class())

    def test_schemes(self) -> None:
        """The scheme of locations, and the name of the driver."""
        self.assertEqual(('easystack-block', 'easystack_block'),
                         self.store.get_schemes())

    def test_configured_twice(self) -> None:
        """Glance does so when it reloads its configuration."""
        location = self.upload(b'data')
        self.store.configure(re_raise_bsc=True)
        self.assertEqual(b'data', self.read(location))
        self.upload(b'more')

    def test_defaults(self) -> None:
        self.assertEqual((3, 2), (self.store.engine.copies,
                                  self.store.engine.min_copies))

    def test_options_reach_the_engine(self) -> None:
        store = self.configured(
            self.devices.paths, copies=2, min_copies=1, io_timeout=7,
            direct_io=False, sweep_interval=86400)
        settings = store.engine.settings
        self.assertEqual([str(path) for path in self.devices.paths],
                         list(settings.devices))
        self.assertEqual(
            (2, 1, 7, False, 86400, True, False),
            (settings.copies, settings.min_copies, settings.io_timeout,
             settings.direct_io, settings.sweep_interval,
             settings.allow_shared_disk, settings.self_repair))


    def test_others_are_told_how_many_copies_are_wanted(self) -> None:
        for number in (2, 3):
            store = self.configured(self.devices.paths, copies=number)
            self.assertEqual([(base.BACKEND, number)], [
                (each.store, each.copies)
                for each in claims.read(store.engine.fleet)])


class MisconfigurationTest(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.devices = base.shared_devices()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)

    def check(self, devices: Sequence[object], *words: str,
              **options: object) -> None:
        """See a configuration refused, with one message for the operator.

        :param words: must be in it
        """
        store = self.make_store(devices, **options)
        error = self.assertRaises(store_exceptions.BadStoreConfiguration,
                                  store.configure_add)
        self.assertIn(base.BACKEND, str(error))
        for word in words:
            self.assertIn(word, str(error))
        self.check_log(store, words)
        self.assertTrue(store.is_capable(
            capabilities.BitMasks.READ_ACCESS,
            capabilities.BitMasks.DRIVER_REUSABLE))
        self.assertFalse(store.is_capable(
            capabilities.BitMasks.WRITE_ACCESS))
        self.assertRaises(store_exceptions.StoreAddDisabled, store.add,
                          base.new_id(), io.BytesIO(b'x'), 1, 'sha512')

    def check_log(self, store: driver.Store, words: Sequence[str]) -> None:
        """See that Glance starts all the same, and that the log says why."""
        log = self.useFixture(fixtures.FakeLogger(
            format='%(levelname)s %(name)s %(message)s'))
        store.configure()
        ours = [line for line in log.output.splitlines()
                if ' easystack_image.' in line]
        self.assertEqual(1, len(ours), ours)
        for word in ('ERROR easystack_image.store.driver', base.BACKEND,
                     *words):
            self.assertIn(word, ours[0])
        self.assertNotIn('Traceback', log.output)

    def new_device(self, name: str, content: bytes | None = None) -> Path:
        """Return a directory with an identity file, or an empty one."""
        path = self.root / name
        path.mkdir()
        if content is not None:
            (path / device.IDENTITY).write_bytes(content)
        return path

    def test_no_device(self) -> None:
        self.check([], 'no device', 'one directory per disk')

    def test_unprepared_devices(self) -> None:
        paths = [self.new_device(f'disk{number}') for number in range(3)]
        self.check(paths, *map(str, paths), 'device init')
        self.assertEqual([], [each for path in paths
                              for each in path.iterdir()])

    def test_missing_directories(self) -> None:
        self.check([self.root / name for name in 'abc'], str(self.root / 'a'),
                   'No such file or directory', 'mount')

    def test_files(self) -> None:
        paths = [self.root / name for name in 'abc']
        for path in paths:
            path.write_bytes(b'')
        self.check(paths, str(paths[0]), 'Not a directory')

    def test_two_sets(self) -> None:
        other = base.shared_devices(1).paths[0]
        self.check([*self.devices.paths[:2], other], str(other),
                   str(self.devices.paths[0]), 'different sets')

    def test_cloned_device(self) -> None:
        """A disk that was copied block by block has the other's identity."""
        original = self.devices.paths[0]
        clone = self.new_device(
            'clone', (original / device.IDENTITY).read_bytes())
        self.check([*self.devices.paths, clone], str(original), str(clone),
                   'same device')

    def check_identity(self, *contents: bytes) -> None:
        for number, content in enumerate(contents):
            paths = [self.new_device(f'disk{number}{index}', content)
                     for index in range(3)]
            self.check(paths, str(paths[0]), 'identity')

    def test_damaged_identities(self) -> None:
        sound = (self.devices.paths[0] / device.IDENTITY).read_bytes()
        self.check_identity(
            b'{}', b'[]', b'{"format": 1}',
            sound.replace(b'"weight": 1.0', b'"weight": 2.0'))

    def test_identities_that_are_no_json(self) -> None:
        """As a disk leaves them that lost power: empty, or cut."""
        sound = (self.devices.paths[0] / device.IDENTITY).read_bytes()
        self.check_identity(b'', b'\xff\xfe', bytes(300), sound[:100])

    def test_identity_of_a_later_release(self) -> None:
        paths = [self.new_device(f'disk{index}', b'{"format": 2}')
                 for index in range(3)]
        self.check(paths, str(paths[0]), 'format 2')

    def test_one_disk(self) -> None:
        self.check(self.devices.paths, *map(str, self.devices.paths),
                   'same disk', 'easystack_block_allow_shared_disk',
                   allow_shared_disk=False)

    def test_fewer_devices_than_copies(self) -> None:
        self.check(self.devices.paths, '4 copies', 'only 3', copies=4)

    def test_more_copies_required_than_kept(self) -> None:
        self.check(self.devices.paths, 'min_copies', '2', '3', copies=2,
                   min_copies=3)

    def test_one_copy_needs_min_copies_too(self) -> None:
        self.check(self.devices.paths, 'min_copies', copies=1)

    def test_duplicate(self) -> None:
        first = self.devices.paths[0]
        self.check([*self.devices.paths, first], str(first),
                   'more than once')

    def test_duplicate_under_another_name(self) -> None:
        link = self.root / 'link'
        link.symlink_to(self.devices.paths[0])
        self.check([*self.devices.paths, link], 'same device')

    def test_relative_path(self) -> None:
        self.check([*self.devices.paths, 'disk3'], "'disk3'", 'absolute')

    def test_path_that_is_not_normal(self) -> None:
        first = self.devices.paths[0]
        for path in (f'{first}/', f'{first.parent}/./{first.name}',
                     f'{first}/../{first.name}'):
            self.check([path, *self.devices.paths[1:]], repr(path),
                       repr(str(first)))

    def test_spaces(self) -> None:
        """Also what comes of separating devices with spaces."""
        spaced = self.new_device('disk no 3')
        self.check([*self.devices.paths, spaced], str(spaced), 'white space')
        self.check([' '.join(map(str, self.devices.paths))], 'white space',
                   'commas')

    def test_comma_too_many(self) -> None:
        self.check(['', *self.devices.paths], "device ''")

    def test_unknown_engine(self) -> None:
        self.check(self.devices.paths, "'floppy'", 'local', engine='floppy')


class OutOfRangeTest(base.TestCase):
    """oslo.config refuses these; Glance starts without the store."""

    def check(self, option: str, value: object, reason: str) -> None:
        store = self.make_store(base.shared_devices().paths,
                                **{option: value})
        error = self.assertRaises(store_exceptions.BadStoreConfiguration,
                                  store.configure_add)
        self.assertIn(f'easystack_block_{option}', str(error))
        self.assertIn(reason, str(error))

    def test_numbers(self) -> None:
        for option, low, high in (('copies', 1, 16), ('min_copies', 1, 16),
                                  ('io_timeout', 1, 3600),
                                  ('sweep_interval', 5, 86400)):
            self.check(option, low - 1, 'greater than or equal')
            self.check(option, high + 1, 'less than or equal')
            self.check(option, 'many', 'invalid literal')

    def test_switches(self) -> None:
        for option in ('allow_shared_disk', 'direct_io', 'self_repair'):
            self.check(option, 'perhaps', 'boolean')


class DegradedStartTest(base.TestCase):
    """A disk that is away at start-up stops nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.devices = base.shared_devices()

    def test_one_of_three(self) -> None:
        with self.devices.away(2):
            store = self.configured(self.devices.paths)
            self.assertIn(str(self.devices.paths[2]), self.log.output)
            uri = store.add(base.new_id(), io.BytesIO(b'data'), 4,
                            'sha512')[0]
            body, _ = store.get(base.location_of(uri, store))
            self.assertEqual(b'data', b''.join(body))

    def test_two_of_three(self) -> None:
        """What is there can be read; uploads say that they cannot be had."""
        store = self.configured(self.devices.paths)
        uri = store.add(base.new_id(), io.BytesIO(b'data'), 4, 'sha512')[0]
        with self.devices.away(0, 1):
            store = self.configured(self.devices.paths)
            self.assertIn('Only 1 of 3 devices', self.log.output)
            body, _ = store.get(base.location_of(uri, store))
            self.assertEqual(b'data', b''.join(body))
            self.assertRaises(
                store_exceptions.StorageWriteDenied, store.add,
                base.new_id(), io.BytesIO(b'x'), 1, 'sha512')
        # And when they are back, no restart is needed.
        store.add(base.new_id(), io.BytesIO(b'x'), 1, 'sha512')


class BackendDefaultsTest(base.TestCase):
    """[backend_defaults] holds for stores that do not say otherwise."""

    def setUp(self) -> None:
        super().setUp()
        self.devices = base.shared_devices()

    def test_fallback(self) -> None:
        store = self.configured(
            self.devices.paths, defaults={'copies': 2, 'io_timeout': 9})
        settings = store.engine.settings
        self.assertEqual((2, 9), (settings.copies, settings.io_timeout))

    def test_own_value(self) -> None:
        store = self.configured(
            self.devices.paths, io_timeout=8, copies=3,
            defaults={'copies': 2, 'io_timeout': 9})
        settings = store.engine.settings
        self.assertEqual((3, 8), (settings.copies, settings.io_timeout))

    def test_own_switch_that_is_off(self) -> None:
        store = self.configured(self.devices.paths, direct_io=False,
                                defaults={'direct_io': True})
        self.assertFalse(store.engine.settings.direct_io)

    def test_devices(self) -> None:
        store = self.configured(defaults={'devices': self.devices.paths})
        self.assertEqual(3, len(store.engine.devices()))

    def test_out_of_range(self) -> None:
        store = self.make_store(self.devices.paths, defaults={'copies': 17})
        self.assertRaises(store_exceptions.BadStoreConfiguration,
                          store.configure_add)


class SingleStoreTest(base.TestCase):
    """The old way, without enabled_backends: options in [glance_store]."""

    def test_single_store(self) -> None:
        store = self.configured(base.shared_devices().paths, backend=None)
        answer = store.add(base.new_id(), io.BytesIO(b'data'), 4, 'sha512')
        self.assertEqual({}, answer[4])
        location = base.location_of(answer[0], store)
        self.assertEqual(b'data', b''.join(store.get(location)[0]))
        self.assertEqual(4, store.get_size(location))
        store.delete(location)

    def test_misconfiguration_names_the_driver(self) -> None:
        store = self.make_store([], backend=None)
        error = self.assertRaises(store_exceptions.BadStoreConfiguration,
                                  store.configure_add)
        self.assertIn('easystack_block', str(error))
