"""What glance_store tests on its ``file`` driver, tested on ours.

The tests are the methods of glance_store's ``TestFilerStoreBase`` (5.7.0);
they are called here, not copied.  They ask for images by
``file:///DIRECTORY/IMAGE``; so the class of our locations is replaced by one
that gives every location such a name, and knows which one was meant when it
gets the name back.  Nothing else is in between: the store is ours.

Run, with one store and with several:

* ``_test_add``, ``_do_test_add`` (thick and thin, which is an option of the
  file driver; to us it is the same, but the store is configured anew),
  ``_test_add_already_existing``, ``_test_add_cleanup_on_read_failure``,
  ``_test_add_with_verifier``, ``_test_delete``,
  ``_test_delete_non_existing``, ``_test_get_non_existing``,
  ``_test_get_random_access``;
* ``_test_get``, up to its last line: see :data:`NOT_RUN`;
* ``TestStoreCapabilitiesChecking``;
* with several stores, ``test_get_non_existing_identifier``.

Those that are not run, and why, stand in :data:`NOT_RUN`.
"""

from __future__ import annotations

import uuid

import fixtures
import glance_store
from glance_store import exceptions
from glance_store import location
from glance_store._drivers import filesystem
from glance_store.tests import base
from glance_store.tests.unit import test_filesystem_store_base as file_base
from glance_store.tests.unit import test_multistore_filesystem as multistore
from glance_store.tests.unit import test_store_capabilities as capabilities
from oslo_config import cfg
import testtools
from testtools import matchers

from easystack_image.store import driver
from tests.unit.store import base as store_base

_METADATA = 'filesystem_store_metadata_file, an option of the file driver'
_DIRECTORIES = 'filesystem_store_datadirs, an option of the file driver'
_MODE = 'filesystem_store_file_perm, an option of the file driver'
_WORDS = ('wants the words of the file driver in the message; our own tests '
          'of the driver see that glance_store.exceptions.Invalid is raised '
          'and nothing is left')

#: Tests of theirs that do not hold for other drivers.
NOT_RUN = {
    '_test_add_image_exceeding_max_size_raises_exception':
        _WORDS + '; also counts what was read in chunks of '
        'filesystem_store_chunk_size',
    '_test_write_less_than_declared_raises_exception': _WORDS,
    '_do_test_thin_provisioning':
        'counts calls of builtins.open().write(), which is mocked',
    '_do_test_add_write_failure':
        'mocks builtins.open(), which we do not call; our own tests of the '
        'driver make real writes fail',
    '_test_delete_forbidden':
        'mocks os.unlink() to fail: an image of ours is deleted once one '
        'device has noted so, and copies that cannot be unlinked are '
        'removed later',
    '_test_add_check_metadata_with_invalid_mountpoint_location': _METADATA,
    '_test_add_check_metadata_list_with_invalid_mountpoint_locations':
        _METADATA,
    '_test_add_check_metadata_list_with_valid_mountpoint_locations':
        _METADATA,
    '_test_add_check_metadata_bad_nosuch_file': _METADATA,
    '_test_configure_add_with_metadata_file_success': _METADATA,
    '_test_configure_add_check_metadata_list_of_dicts_success': _METADATA,
    '_test_configure_add_check_metadata_success_list_val_for_some_key':
        _METADATA,
    '_test_configure_add_check_metadata_bad_data': _METADATA,
    '_test_configure_add_check_metadata_with_no_id_or_mountpoint': _METADATA,
    '_test_cfg_add_check_metadata_id_or_mountpoint_is_not_string': _METADATA,
    '_test_cfg_add_check_metadata_list_with_no_id_or_mountpoint': _METADATA,
    '_test_add_check_metadata_list_id_or_mountpoint_is_not_string':
        _METADATA,
    '_test_configure_add_with_multi_datadirs': _DIRECTORIES,
    '_test_configure_add_same_dir_multiple_times': _DIRECTORIES,
    '_test_configure_add_same_dir_multiple_times_same_priority':
        _DIRECTORIES,
    '_test_add_with_multiple_dirs': _DIRECTORIES,
    '_test_add_with_multiple_dirs_storage_full': _DIRECTORIES,
    '_test_configure_add_with_file_perm': _MODE,
    '_test_configure_add_with_inaccessible_file_perm': _MODE,
    '_test_add_with_file_perm_for_group_other_users_access': _MODE,
    '_test_add_with_file_perm_for_owner_users_access': _MODE,
    '_test_configure_add_chunk_size':
        'filesystem_store_chunk_size, an option of the file driver',
}

RUN = {
    '_test_get', '_test_get_random_access', '_test_get_non_existing',
    '_test_add', '_do_test_add', '_test_add_with_verifier',
    '_test_add_already_existing', '_test_add_cleanup_on_read_failure',
    '_test_delete', '_test_delete_non_existing',
}


class AccountTest(testtools.TestCase):

    def test_all_are_run_or_have_a_reason(self) -> None:
        """A later release of glance_store may bring new ones."""
        theirs = {name for name in vars(file_base.TestFilerStoreBase)
                  if name.startswith(('_test', '_do_test', 'test'))}
        self.assertEqual(set(), theirs - RUN - set(NOT_RUN))

    def test_none_is_both(self) -> None:
        self.assertEqual(set(), RUN & set(NOT_RUN))


def file_locations(directory: str,
                   store_id: str) -> type[driver.StoreLocation]:
    """Return a class of locations that go by the names of files.

    :param directory: that the files seem to lie in
    :param store_id: of the set in which unknown ones seem to be
    """
    locations: dict[str, str] = {}

    class FileLocation(driver.StoreLocation):

        def get_uri(self) -> str:
            locations[self.image_id] = super().get_uri()
            return f'file://{directory}/{self.image_id}'

        def parse_uri(self, uri: str) -> None:
            image_id = uri.rpartition('/')[2]
            nowhere = (f'{driver.SCHEME}://{store_id}/{uuid.uuid4()}/'
                       f'{uuid.uuid4()}')
            super().parse_uri(locations.get(image_id, nowhere))

    return FileLocation


class FileDriverTests(file_base.TestFilerStoreBase,
                      capabilities.TestStoreCapabilitiesChecking):
    """Those of their tests that hold for us."""

    def make_store(self, backend: str | None) -> driver.Store:
        """Return a store that works, to whom ``file://`` is familiar."""
        group = backend or 'glance_store'
        self.devices = store_base.shared_devices()
        # Tests set options of the file driver, to no effect on ours.
        self.conf.register_opts(filesystem.Store.OPTIONS, group=group)
        store = driver.Store(self.conf, backend=backend)
        self.config(**store_base.block_options(self.devices.paths),
                    group=group)
        store.configure(re_raise_bsc=True)
        self.addCleanup(store_base.close, store)
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.store.driver.StoreLocation',
            file_locations(self.test_dir, store.engine.store_id)))
        self.addCleanup(self.check_no_leftovers)
        return store

    def check_no_leftovers(self) -> None:
        """See what their look for a file cannot see on our devices."""
        self.assertEqual([], self.devices.leftovers())

    @staticmethod
    def file_scheme(store: driver.Store) -> dict[str, object]:
        """Return what glance_store has to know of the scheme."""
        return {'store': store, 'store_entry': 'file',
                'location_class': store.get_store_location_class()}

    def test_store_is_ours(self) -> None:
        self.assertIs(driver.Store, type(self.store))

    def test_get(self) -> None:
        """The last line wants the chunk size of the file driver.

        It counts the chunks of ten bytes; everything before it holds.
        """
        error = self.assertRaises(matchers.MismatchError, self._test_get)
        self.assertEqual('2 != 1', str(error))

    def test_get_random_access(self) -> None:
        self._test_get_random_access()

    def test_get_non_existing(self) -> None:
        self._test_get_non_existing()

    def test_add(self) -> None:
        self._test_add()

    def test_add_thick(self) -> None:
        self._do_test_add(enable_thin_provisoning=False)

    def test_add_thin(self) -> None:
        self._do_test_add(enable_thin_provisoning=True)

    def test_add_with_verifier(self) -> None:
        self._test_add_with_verifier()

    def test_add_already_existing(self) -> None:
        self._test_add_already_existing()

    def test_add_cleanup_on_read_failure(self) -> None:
        self._test_add_cleanup_on_read_failure()

    def test_delete(self) -> None:
        self._test_delete()

    def test_delete_non_existing(self) -> None:
        self._test_delete_non_existing()


class TestSingleStore(base.StoreBaseTest, FileDriverTests):

    _CONF = cfg.ConfigOpts()

    def setUp(self) -> None:
        super().setUp()
        self.multistore = False
        self.backend = 'glance_store'
        self.hash_algo = 'sha256'
        self.store = self.make_store(None)
        location.register_scheme_map({'file': self.file_scheme(self.store)})


class TestMultiStore(base.MultiStoreBaseTest, FileDriverTests):

    _CONF = cfg.ConfigOpts()

    def setUp(self) -> None:
        super().setUp()
        self.multistore = True
        self.backend = 'file1'
        self.conf = self._CONF
        self.conf(args=[])
        self.addCleanup(self.conf.reset)
        self.conf.register_opt(cfg.DictOpt('enabled_backends'))
        self.config(enabled_backends={'file1': 'easystack_block',
                                      'file2': 'easystack_block'})
        glance_store.register_store_opts(self.conf)
        self.config(default_backend='file1', group='glance_store')
        self.useFixture(fixtures.MonkeyPatch(
            'glance_store.location.SCHEME_TO_CLS_BACKEND_MAP', {}))
        self.test_dir = self.useFixture(fixtures.TempDir()).path
        self.use_backend('file1')

    def use_backend(self, backend: str) -> None:
        """Have the tests use one of the stores."""
        self.backend = backend
        self.store = self.make_store(backend)
        location.register_scheme_backend_map(
            {'file': {backend: self.file_scheme(self.store)}})

    def test_add_to_another_backend(self) -> None:
        self.use_backend('file2')
        self._test_add()

    def test_get_non_existing_identifier(self) -> None:
        multistore.TestMultiStore.test_get_non_existing_identifier(self)

    def test_locations_of_one_are_not_known_to_the_other(self) -> None:
        self.assertRaises(
            exceptions.UnknownScheme,
            location.get_location_from_uri_and_backend,
            f'file://{self.test_dir}/{uuid.uuid4()}', 'file2',
            conf=self.conf)
