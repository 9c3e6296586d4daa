"""Uploads: what goes in, what is answered, what is left after a failure."""

from __future__ import annotations

from collections.abc import Iterator
import hashlib
import io
import re
from typing import Any

from cryptography import exceptions as crypto_exceptions
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cursive import signature_utils
from glance_store import exceptions as store_exceptions

from tests.unit.store import base

#: More than the engine has buffers for, so that they are used again.
LARGE = 27 * base.MIB + 4321


class AddTest(base.StoreTestCase):

    def check(self, answer: tuple[Any, ...], image_id: str,
              data: bytes) -> None:
        """Check the answer to an upload with sha512, and read it back."""
        uri, size, checksum, multihash, metadata = answer
        self.assertRegex(uri, '^easystack-block://[^/]+/'
                              f'{re.escape(image_id)}/[^/]+$')
        self.assertEqual(len(data), size)
        self.assertEqual(base.md5(data), checksum)
        self.assertEqual(base.sha512(data), multihash)
        self.assertEqual({'store': base.BACKEND}, metadata)
        self.assertEqual(data, self.read(self.location(uri)))
        self.assertEqual([data] * 3, [
            path.read_bytes() for path in self.devices.data_files(image_id)])
        self.assertEqual([], self.devices.leftovers())

    def add(self, data: bytes, source: object, size: int | None) -> None:
        image_id = base.new_id()
        self.check(self.store.add(image_id, source, size, 'sha512'),
                   image_id, data)

    def test_known_size(self) -> None:
        data = base.content(5 * base.MIB + 7)
        self.add(data, io.BytesIO(data), len(data))

    def test_unknown_size(self) -> None:
        """Glance says 0 when the client sends chunks."""
        data = base.content(5 * base.MIB + 7)
        self.add(data, io.BytesIO(data), 0)

    def test_no_size(self) -> None:
        """Some callers of glance_store say None."""
        data = base.content(100)
        self.add(data, io.BytesIO(data), None)

    def test_more_than_the_buffers(self) -> None:
        data = base.content(LARGE)
        self.add(data, io.BytesIO(data), len(data))

    def test_nothing(self) -> None:
        self.add(b'', io.BytesIO(b''), 0)

    def test_one_byte(self) -> None:
        self.add(b'x', io.BytesIO(b'x'), 1)

    def test_source_that_gives_little_at_a_time(self) -> None:
        data = base.content(base.MIB + 1)
        self.add(data, base.Trickle(data, 65_521), len(data))

    def test_canonical_image_id(self) -> None:
        """One image does not get two names."""
        image_id = base.new_id()
        answer = self.store.add(image_id.upper(), io.BytesIO(b'data'), 4,
                                'sha512')
        self.check(answer, image_id, b'data')

    def test_iterator(self) -> None:
        """Imports hand over what they download as an iterator."""
        data = base.content(9 * base.MIB + 1)

        def chunks() -> Iterator[bytes]:
            for begin in range(0, len(data), 700_001):
                yield data[begin:begin + 700_001]

        self.add(data, chunks(), 0)

    def test_iterable_of_large_and_empty_chunks(self) -> None:
        """An empty chunk is not the end; one may be larger than a buffer."""
        data = base.content(9 * base.MIB + 1)
        self.add(data, [b'', data[:1], b'', b'', data[1:], b''], len(data))

    def test_iterable_of_nothing(self) -> None:
        self.add(b'', [], 0)

    def test_iterable_that_ends_early(self) -> None:
        self.refused(store_exceptions.Invalid, [b'abc', b'def'], 7)

    def test_iterable_that_goes_on(self) -> None:
        self.refused(store_exceptions.Invalid, [b'abc', b'def'], 5)

    def refused(self, error: type[BaseException], source: object,
                size: int | None = None, image_id: str | None = None,
                algorithm: str = 'sha512', **arguments: Any) -> BaseException:
        """See an upload fail and leave nothing; return the error."""
        image_id = image_id or base.new_id()
        raised = self.assertRaises(error, self.store.add, image_id, source,
                                   size, algorithm, **arguments)
        self.assertEqual([], self.devices.image_files(image_id))
        self.assertEqual([], self.devices.leftovers())
        return raised

    def test_larger_than_declared(self) -> None:
        error = self.refused(store_exceptions.Invalid,
                             io.BytesIO(bytes(1001)), 1000)
        self.assertIn('1000 bytes', str(error))

    def test_much_larger_than_declared_is_not_read_to_its_end(self) -> None:
        """A client cannot keep us busy with more than it announced."""
        source = io.BytesIO(bytes(20 * base.MIB))
        self.refused(store_exceptions.Invalid, source, 1000)
        self.assertLessEqual(source.tell(), 4 * base.MIB)

    def test_smaller_than_declared(self) -> None:
        source = io.BytesIO(bytes(999))
        error = self.refused(store_exceptions.Invalid, source, 1000)
        self.assertIn('999 bytes', str(error))
        self.assertIn('1000', str(error))

    def test_negative_size(self) -> None:
        error = self.refused(store_exceptions.Invalid, io.BytesIO(b'x'), -1)
        self.assertIn('size', str(error))

    def test_source_that_gives_more_than_asked_for(self) -> None:
        class Generous:
            def read(self, size: int) -> bytes:
                return bytes(size + 1)

        self.refused(store_exceptions.Invalid, Generous())

    def test_source_that_fails(self) -> None:
        """What the client's connection raises is not dressed up."""
        class Gone(base.Trickle):
            def read(self, size: int) -> bytes:
                return super().read(size) or self.fail()

            def fail(self) -> bytes:
                raise ConnectionResetError('client is gone')

        error = self.refused(ConnectionResetError,
                             Gone(bytes(6 * base.MIB), base.MIB))
        self.assertEqual('client is gone', str(error))

    def test_iterator_that_fails(self) -> None:
        def chunks() -> Iterator[bytes]:
            yield bytes(5 * base.MIB)
            raise KeyError('catalogue')

        self.refused(KeyError, chunks())

    def test_interrupted(self) -> None:
        """Threads of a server that stops are ended by BaseException."""
        def chunks() -> Iterator[bytes]:
            yield bytes(5 * base.MIB)
            raise SystemExit

        self.refused(SystemExit, chunks())

    def test_duplicate(self) -> None:
        image_id = base.new_id()
        location = self.upload(b'the first', image_id)
        source = io.BytesIO(b'the second')
        error = self.assertRaises(store_exceptions.Duplicate, self.store.add,
                                  image_id, source, 10, 'sha512')
        self.assertIn(image_id, str(error))
        self.assertEqual(0, source.tell())
        self.assertEqual(b'the first', self.read(location))

    def check_image_id(self, image_id: object) -> None:
        """See an image id refused before anything is read."""
        source = io.BytesIO(b'x')
        error = self.assertRaises(store_exceptions.Invalid, self.store.add,
                                  image_id, source, 1, 'sha512')
        self.assertIn('UUID', str(error))
        self.assertEqual(0, source.tell())

    def test_image_id_that_is_no_uuid(self) -> None:
        for image_id in ('image', '../../../etc/passwd', '0' * 32, '.',
                         base.new_id() + '/', '{' + base.new_id() + '}',
                         'urn:uuid:' + base.new_id(), None, 7):
            self.check_image_id(image_id)

    def test_empty_image_id(self) -> None:
        self.check_image_id('')

    def test_again_after_a_failure(self) -> None:
        image_id = base.new_id()
        self.refused(store_exceptions.Invalid, io.BytesIO(b'x'), 2, image_id)
        self.check(self.store.add(image_id, io.BytesIO(b'xy'), 2, 'sha512'),
                   image_id, b'xy')

    def test_again_after_a_deletion(self) -> None:
        """The old location does not lead to the new data."""
        image_id = base.new_id()
        old = self.upload(b'the first', image_id)
        self.store.delete(old)
        new = self.upload(b'the second', image_id)
        self.assertEqual(b'the second', self.read(new))
        self.assertRaises(store_exceptions.NotFound, self.store.get, old)
        self.assertRaises(store_exceptions.NotFound, self.store.get_size,
                          old)
        self.assertRaises(store_exceptions.NotFound, self.store.delete, old)
        self.assertEqual(b'the second', self.read(new))


class HashingTest(base.StoreTestCase):

    DATA = base.content(4 * base.MIB + 5)

    def multihash(self, algorithm: str) -> str:
        return self.store.add(base.new_id(), io.BytesIO(self.DATA),
                              len(self.DATA), algorithm)[3]

    def test_algorithms(self) -> None:
        for algorithm in ('sha512', 'sha256', 'sha384', 'sha3_256', 'md5',
                          'blake2b'):
            expected = hashlib.new(algorithm, self.DATA).hexdigest()
            self.assertEqual(expected, self.multihash(algorithm), algorithm)

    def test_everything_glance_store_lets_through(self) -> None:
        """It asks hashlib what there is; some have no fixed length."""
        self.DATA = b'a few bytes'
        for algorithm in sorted(hashlib.algorithms_available):
            if algorithm.startswith('shake_'):
                error = self.assertRaises(store_exceptions.Invalid,
                                          self.multihash, algorithm)
                self.assertIn(algorithm, str(error))
            else:
                expected = hashlib.new(algorithm, self.DATA).hexdigest()
                self.assertEqual(expected, self.multihash(algorithm))

    def test_unknown_algorithm(self) -> None:
        error = self.assertRaises(store_exceptions.Invalid, self.multihash,
                                  'crc32')
        self.assertIn('crc32', str(error))

    def test_no_algorithm_is_the_old_call(self) -> None:
        """Before 0.26 there was none, and the answer had four parts."""
        for arguments, named in (
                ((base.new_id(), io.BytesIO(b'x'), 1), {}),
                ((base.new_id(), io.BytesIO(b'x'), 1),
                 {'context': None, 'verifier': None}),
                ((), {'image_id': base.new_id(),
                      'image_file': io.BytesIO(b'x'), 'image_size': 1})):
            uri, size, checksum, metadata = self.store.add(*arguments,
                                                           **named)
            self.assertEqual(b'x', self.read(self.location(uri)))
            self.assertEqual((1, base.md5(b'x')), (size, checksum))
            self.assertEqual({'store': base.BACKEND}, metadata)

    def test_named_algorithm(self) -> None:
        answer = self.store.add(
            image_id=base.new_id(), image_file=io.BytesIO(b'x'),
            image_size=1, hashing_algo='sha256', context=None, verifier=None)
        self.assertEqual(hashlib.sha256(b'x').hexdigest(), answer[3])


class VerifierTest(base.StoreTestCase):
    """Signed images: the verifier that Glance gets from cursive."""

    DATA = base.content(LARGE)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.key = rsa.generate_private_key(public_exponent=65537,
                                           key_size=2048)
        cls.signature = cls.key.sign(
            cls.DATA, padding.PSS(mgf=padding.MGF1(hashes.SHA256()),
                                  salt_length=padding.PSS.MAX_LENGTH),
            hashes.SHA256())

    def verifier(self) -> Any:
        kind = signature_utils.SignatureKeyType.lookup(
            signature_utils.RSA_PSS)
        return kind.create_verifier(self.signature, hashes.SHA256(),
                                    self.key.public_key())

    def test_good_signature(self) -> None:
        verifier = self.verifier()
        uri = self.store.add(base.new_id(), io.BytesIO(self.DATA),
                             len(self.DATA), 'sha512', verifier=verifier)[0]
        verifier.verify()
        self.assertEqual(self.DATA, self.read(self.location(uri)))

    def test_iterator(self) -> None:
        verifier = self.verifier()
        self.store.add(base.new_id(), [self.DATA[:99], self.DATA[99:]], 0,
                       'sha512', verifier=verifier)
        verifier.verify()

    def test_bad_signature(self) -> None:
        """Glance, not the store, asks for the verdict afterwards."""
        verifier = self.verifier()
        data = self.DATA[:-1] + bytes([self.DATA[-1] ^ 1])
        self.store.add(base.new_id(), io.BytesIO(data), len(data), 'sha512',
                       verifier=verifier)
        self.assertRaises(crypto_exceptions.InvalidSignature,
                          verifier.verify)

    def test_verifier_that_fails(self) -> None:
        """One that has given its verdict takes no more bytes."""
        verifier = self.verifier()
        self.assertRaises(crypto_exceptions.InvalidSignature,
                          verifier.verify)
        image_id = base.new_id()
        self.assertRaises(
            crypto_exceptions.AlreadyFinalized, self.store.add, image_id,
            io.BytesIO(self.DATA), len(self.DATA), 'sha512',
            verifier=verifier)
        self.assertEqual([], self.devices.image_files(image_id))
        self.assertEqual([], self.devices.leftovers())
