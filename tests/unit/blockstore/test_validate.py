"""Arguments that every engine checks alike."""

from __future__ import annotations

import hashlib
from typing import Any
import uuid

import hypothesis
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import validate
from tests.unit.blockstore import examples

ID = 'acd9ad0a-e692-40b7-9ba7-6fe6b94be08f'
anything = strategies.one_of(
    strategies.none(), strategies.booleans(), strategies.integers(),
    strategies.floats(), strategies.text(), strategies.binary(),
    strategies.lists(strategies.integers()), strategies.uuids())


class UuidTest(testtools.TestCase):

    @hypothesis.given(strategies.uuids())
    @examples(100)
    def test_canonical(self, value: uuid.UUID) -> None:
        self.assertEqual(str(value), validate.canonical_uuid(str(value)))
        self.assertEqual(str(value),
                         validate.canonical_uuid(str(value).upper()))

    def test_mixed_case(self) -> None:
        self.assertEqual(ID, validate.canonical_uuid(ID.title()))

    @hypothesis.given(anything)
    @hypothesis.example('')
    @hypothesis.example(ID.replace('-', ''))
    @hypothesis.example(f'{{{ID}}}')
    @hypothesis.example('urn:uuid:' + ID)
    @examples(300)
    def test_everything_else(self, value: Any) -> None:
        error = self.assertRaises(exceptions.InvalidRequest,
                                  validate.canonical_uuid, value, 'the name')
        self.assertTrue(str(error).startswith('the name must be a UUID'))

    @hypothesis.given(strategies.text(
        alphabet='0123456789abcdefABCDEF-{}/.urnid:_ \n', min_size=30,
        max_size=45))
    @hypothesis.example(ID + '\n')
    @hypothesis.example(ID[:-1] + '٤')
    @examples(300)
    def test_nothing_but_hexadecimal_digits_gets_through(
            self, value: str) -> None:
        try:
            canonical = validate.canonical_uuid(value)
        except exceptions.InvalidRequest:
            return
        self.assertEqual(36, len(canonical))
        self.assertLessEqual(set(canonical), set('0123456789abcdef-'))
        self.assertEqual(value.lower(), canonical)

    def test_long_values_are_cut(self) -> None:
        error = self.assertRaises(exceptions.InvalidRequest,
                                  validate.canonical_uuid, 'x' * 10_000)
        self.assertLess(len(str(error)), 300)


class ByteCountTest(testtools.TestCase):

    @hypothesis.given(strategies.integers(0))
    @examples(50)
    def test_good(self, value: int) -> None:
        self.assertEqual(value, validate.byte_count(value, 'size'))

    @hypothesis.given(anything.filter(
        lambda value: type(value) is not int or value < 0))
    @examples(200)
    def test_bad(self, value: Any) -> None:
        error = self.assertRaises(exceptions.InvalidRequest,
                                  validate.byte_count, value, 'size')
        self.assertTrue(str(error).startswith('size must be a number'))


class AlgorithmTest(testtools.TestCase):

    def test_what_images_have(self) -> None:
        for name in ('md5', 'sha1', 'sha256', 'sha384', 'sha512',
                     'blake2b', 'sha3_512'):
            self.assertEqual(name, validate.hash_algorithm(name))

    def test_what_is_allowed_fits_a_manifest(self) -> None:
        # 24 bytes for the name, 64 for the digest, and a length at all.
        allowed = set()
        for name in hashlib.algorithms_available:
            try:
                allowed.add(validate.hash_algorithm(name))
            except exceptions.InvalidRequest:
                continue
            self.assertLessEqual(len(name.encode('ascii')), 24)
            digest = hashlib.new(name, usedforsecurity=False).digest()
            self.assertTrue(0 < len(digest) <= 64)
        self.assertGreaterEqual(
            allowed, hashlib.algorithms_guaranteed
            - {'shake_128', 'shake_256'})

    @hypothesis.given(anything.filter(
        lambda value: str(value) not in hashlib.algorithms_available))
    @hypothesis.example('shake_256')
    @hypothesis.example('sha512 ')
    @hypothesis.example('sha512\0')
    @examples(200)
    def test_unknown(self, value: Any) -> None:
        error = self.assertRaises(exceptions.InvalidRequest,
                                  validate.hash_algorithm, value)
        self.assertIn('digest algorithm', str(error))
