"""Locations: their form, their set of devices, and who may give them."""

from __future__ import annotations

import gc
import io
import string
from unittest import mock
import weakref

from glance_store import exceptions as store_exceptions
from glance_store import location as store_location
from glance_store._drivers import rbd
from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image.blockstore import address
from easystack_image.store import driver
from tests.unit.store import base

UUIDS = strategies.uuids().map(str)
PREFIX = 'easystack-block://'
SET = 'a46f5a51-7d68-4bd3-9b4b-5e9b6dd3ac01'
IMAGE = '0b5d2b8f-0a35-4dd9-8c0a-3f6e3a1c2b02'
UPLOAD = '6e3dd5c7-b0a3-4b3e-9c2d-3a1f4e5d6c03'
URI = f'{PREFIX}{SET}/{IMAGE}/{UPLOAD}'


def parse(uri: str) -> driver.StoreLocation:
    location = driver.StoreLocation({}, mock.sentinel.conf)
    location.parse_uri(uri)
    return location


def well_formed(uri: str) -> bool:
    """Tell, by other means than the driver's, whether a URI is one."""
    if not uri.startswith(PREFIX):
        return False
    parts = uri.removeprefix(PREFIX).split('/')
    return len(parts) == 3 and all(
        [len(group) for group in part.split('-')] == [8, 4, 4, 4, 12]
        and set(part) <= {*string.hexdigits, '-'} for part in parts)


class StoreLocationTest(testtools.TestCase):

    def check_refused(self, uri: str) -> None:
        error = self.assertRaises(store_exceptions.BadStoreUri, parse, uri)
        # It says what is wanted, and does not repeat what was given: that
        # may be the secret of another driver.
        self.assertIn('three UUIDs', str(error))

    @given(UUIDS, UUIDS, UUIDS)
    def test_round_trip(self, store_id: str, image_id: str,
                        generation: str) -> None:
        given_parts = driver.StoreLocation(
            {'place': address.Address(store_id, image_id, generation)},
            mock.sentinel.conf)
        uri = given_parts.get_uri()
        self.assertEqual(f'{PREFIX}{store_id}/{image_id}/{generation}', uri)
        parsed = parse(uri)
        self.assertEqual(
            (store_id, image_id, generation, uri),
            (parsed.place.store_id, parsed.place.image_id,
             parsed.place.generation, parsed.get_uri()))

    def test_glance_store_finds_its_scheme(self) -> None:
        """It parses the URI too, by its own rules."""
        entry = {'location_class': driver.StoreLocation}
        with mock.patch.dict(store_location.SCHEME_TO_CLS_MAP,
                             {driver.SCHEME: entry}, clear=True):
            location = store_location.get_location_from_uri(URI)
        self.assertEqual(URI, location.get_store_uri())
        self.assertEqual(driver.SCHEME, location.store_name)

    def test_case_does_not_matter(self) -> None:
        self.assertEqual(URI, parse(PREFIX + URI.removeprefix(
            PREFIX).upper()).get_uri())

    @given(strategies.text())
    def test_any_text(self, text: str) -> None:
        for uri in (text, PREFIX + text, URI + text):
            if not well_formed(uri):
                self.check_refused(uri)

    @given(strategies.integers(0, len(URI) - 1), strategies.characters())
    def test_one_character_changed(self, place: int, other: str) -> None:
        uri = URI[:place] + other + URI[place + 1:]
        if well_formed(uri):
            self.assertEqual(uri.lower(), parse(uri).get_uri())
        else:
            self.check_refused(uri)

    @given(strategies.integers(0, len(URI) - 1))
    def test_one_character_missing(self, place: int) -> None:
        self.check_refused(URI[:place] + URI[place + 1:])

    def test_other_forms(self) -> None:
        for uri in ('', 'file:///etc/passwd',
                    URI + '/', URI + '\n', ' ' + URI, URI + '?a=b',
                    URI + '#top', URI.replace('//', '///'),
                    URI.replace('-block', '_block'), PREFIX,
                    f'{PREFIX}{SET}/{IMAGE}', f'{PREFIX}{SET}/../{UPLOAD}',
                    f'{PREFIX}user:secret@{SET}/{IMAGE}/{UPLOAD}',
                    f'{PREFIX}{SET}/{IMAGE.replace("-", "")}/{UPLOAD}',
                    f'{PREFIX}{SET}/{IMAGE}/{UPLOAD[:-1]}٣'):
            self.check_refused(uri)


class RbdLocationTest(testtools.TestCase):
    """Locations in Ceph have the form that Nova and Cinder know."""

    def test_round_trip(self) -> None:
        for pool, quoted in (('images', 'images'), ('a b/c', 'a%20b%2Fc'),
                             ('bücher', 'b%C3%BCcher')):
            place = address.Rbd(SET, pool, IMAGE)
            uri = f'rbd://{SET}/{quoted}/{IMAGE}/snap'
            self.assertEqual(uri, place.uri)
            self.assertEqual(place, parse(uri).place)
            self.assertEqual(uri, parse(uri).get_uri())
            self.assertIsNone(place.generation)

    def test_as_glance_store_has_it(self) -> None:
        """Its rbd driver and ours must be able to take turns."""
        theirs = rbd.StoreLocation({
            'fsid': SET, 'pool': 'a b/c', 'image': IMAGE,
            'snapshot': 'snap'}, mock.sentinel.conf)
        uri = address.Rbd(SET, 'a b/c', IMAGE).uri
        self.assertEqual(theirs.get_uri(), uri)
        theirs.parse_uri(uri)
        self.assertEqual('a b/c', theirs.pool)

    def test_other_forms(self) -> None:
        good = f'rbd://{SET}/images/{IMAGE}/snap'
        for uri in ('rbd://fsid/pool/image/snap', f'rbd://{IMAGE}',
                    f'rbd://{SET}/images/{IMAGE}', good + '/', good + '\n',
                    f'rbd://{SET}/images/{IMAGE}/other', good + 's',
                    f'rbd://{SET}//{IMAGE}/snap',
                    f'rbd://{SET}/images/more/{IMAGE}/snap',
                    f'rbd://{SET}/images/volume-{IMAGE}/snap'):
            error = self.assertRaises(store_exceptions.BadStoreUri, parse,
                                      uri)
            self.assertIn('rbd://', str(error))


class SetOfDevicesTest(base.StoreTestCase):

    def test_location_names_the_set(self) -> None:
        location = self.upload(b'data')
        self.assertEqual(self.store.engine.store_id,
                         location.store_location.place.store_id)

    def test_url_prefix(self) -> None:
        """Glance finds the store of an old location by it."""
        uri = self.upload(b'data').get_store_uri()
        self.assertTrue(uri.startswith(self.store.url_prefix), uri)
        self.assertEqual(f'{PREFIX}{self.store.engine.store_id}/',
                         self.store.url_prefix)

    def test_no_url_prefix_without_a_backend(self) -> None:
        store = self.configured(self.devices.paths, backend=None)
        self.assertIsNone(store.url_prefix)

    def test_location_in_another_set(self) -> None:
        """An image of other devices is not looked for on these."""
        uri = self.upload(b'data').get_store_uri()
        other = self.location(uri.replace(self.store.engine.store_id, SET))
        for call in (self.store.get_size, self.store.delete):
            self.assertRaises(store_exceptions.NotFound, call, other)
        # On "not found", Glance would answer 204.
        self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                          self.store.get, other)
        self.assertEqual(b'data', self.read(self.location(uri)))


class AdmissionTest(base.StoreTestCase):
    """Glance asks for the size of every location that an image is given."""

    def setUp(self) -> None:
        super().setUp()
        self.context = base.request(user_id='alice')
        self.uri = self.add(self.context)
        self.image = self.location(self.uri)

    def add(self, context: object, data: bytes = b'data') -> str:
        return self.store.add(base.new_id(), io.BytesIO(data), len(data),
                              'sha512', context=context)[0]

    def check_refused(self, uri: str, context: object) -> None:
        error = self.assertRaises(
            store_exceptions.BadStoreUri, self.store.get_size,
            self.location(uri), context=context)
        self.assertNotIn(uri, str(error))
        self.assertIn('WARNING easystack_image.store.driver: '
                      'Refused a location', self.log.output)

    def test_request_that_uploaded(self) -> None:
        for _ in range(2):
            self.assertEqual(4, self.store.get_size(self.image,
                                                    context=self.context))
        self.assertNotIn('Refused', self.log.output)

    def test_request_that_uploaded_two(self) -> None:
        """A request may upload to several places."""
        second = self.location(self.add(self.context, b'second'))
        self.assertEqual(6, self.store.get_size(second,
                                                context=self.context))
        self.assertEqual(4, self.store.get_size(self.image,
                                                context=self.context))

    def test_another_request(self) -> None:
        self.check_refused(self.uri, base.request(user_id='mallory'))

    def test_another_request_of_the_same_user(self) -> None:
        self.check_refused(self.uri, base.request(user_id='alice'))

    def test_another_request_that_uploaded_something_else(self) -> None:
        mallory = base.request(user_id='mallory')
        own = self.add(mallory)
        self.assertEqual(4, self.store.get_size(self.location(own),
                                                context=mallory))
        self.check_refused(self.uri, mallory)
        self.check_refused(own, self.context)

    def test_another_request_with_the_same_id(self) -> None:
        """Clients choose the ids of their requests."""
        mallory = base.request(request_id=self.context.request_id)
        self.assertEqual(self.context.request_id, mallory.request_id)
        self.check_refused(self.uri, mallory)
        self.check_refused(self.uri, base.request(
            **{'user_id': 'alice', 'request_id': self.context.request_id}))

    def test_service(self) -> None:
        """It puts nothing on our devices by itself."""
        for roles in ({'roles': ['service']}, {'service_roles': ['service']}):
            self.check_refused(self.uri, base.request(**roles))

    def test_image_that_does_not_exist(self) -> None:
        """Whether it does is not told."""
        self.check_refused(
            self.uri.rpartition('/')[0] + '/' + base.new_id(), self.context)

    def test_no_request(self) -> None:
        """Those who use glance_store without requests may ask for sizes."""
        for context in (None, {}, 'context'):
            self.assertEqual(4, self.store.get_size(self.image,
                                                    context=context))

    def test_upload_without_a_request_admits_nobody(self) -> None:
        self.check_refused(self.add(None), base.request())

    def test_upload_that_failed_admits_nobody(self) -> None:
        self.assertRaises(store_exceptions.Duplicate, self.store.add,
                          self.image.store_location.image_id,
                          io.BytesIO(b''), 0, 'sha512',
                          context=(mallory := base.request()))
        self.check_refused(self.uri, mallory)

    def test_reading_and_deleting_are_for_others_too(self) -> None:
        """Glance has decided by then who may do what with the image."""
        other = base.request()
        self.assertEqual(b'data', self.read(self.image, context=other))
        self.store.delete(self.image, context=other)

    def test_requests_are_not_kept(self) -> None:
        """A process that serves for months must not remember them all."""
        requests = []
        for _ in range(10):
            context = base.request()
            self.add(context)
            requests.append(weakref.ref(context))
        del context
        gc.collect()
        self.assertEqual([None] * 10, [each() for each in requests])
