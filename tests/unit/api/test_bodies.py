"""Bodies that Glance would fail at."""

from __future__ import annotations

import json

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import testtools

from easystack_image import exceptions
from easystack_image.api import bodies

V20, V21 = sorted(bodies.PATCH_TYPES)


class CheckTest(testtools.TestCase):

    def refused(self, body: bytes, word: str) -> None:
        error = self.assertRaises(exceptions.InvalidRequest, bodies.check,
                                  body)
        self.assertIn(word, str(error))

    def test_depth(self) -> None:
        deepest = b'[' * 63 + b']' * 63
        self.assertIsInstance(bodies.check(deepest), list)
        for depth in (65, 1000, 100000):
            self.refused(b'[' * depth + b']' * depth, 'deep')
            self.refused(b'{"a":' * depth + b'1' + b'}' * depth, 'deep')

    def test_texts(self) -> None:
        for text in (b'"\\ud800"', b'{"\\udfff": 1}', b'[{"a": ["\\ud800"]}]'):
            self.refused(text, 'surrogate')
        self.refused(b'{"name": "a\\u0000"}', 'U+0000')
        self.assertEqual('😀', bodies.check(b'"\\ud83d\\ude00"'))

    def test_constants(self) -> None:
        for name in (b'NaN', b'Infinity', b'-Infinity'):
            self.refused(b'{"min_disk": ' + name + b'}', 'number')

    def test_numbers(self) -> None:
        for number in (b'1e999', b'-1e400'):
            self.refused(b'{"minimum": ' + number + b'}', 'too large')
        self.assertEqual([1e308, -0.5], bodies.check(b'[1e308, -0.5]'))

    def test_long_texts(self) -> None:
        longest = 'é' * 32767
        self.assertEqual([longest], bodies.check(
            json.dumps([longest]).encode()))
        self.refused(json.dumps({'a': longest + 'é'}).encode(), '65536 bytes')

    def test_no_json(self) -> None:
        """Glance says so by itself."""
        for body in (b'', b'{', b'\xff', b'{} {}', b'9' * 5000):
            self.assertIsNone(bodies.check(body))

    # A busy machine is no reason to fail.
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(
            'a"\\\n\x01é日😀', max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.text('ab', max_size=2), inner, max_size=3),
        max_leaves=5))
    def test_sound_json(self, content: object) -> None:
        self.assertEqual(content, bodies.check(json.dumps(content).encode()))


class ImageTest(testtools.TestCase):

    def test_object(self) -> None:
        bodies.check_image({'name': 'a'})
        bodies.check_image(None)
        for content in ([], 'a', 1, True):
            self.assertRaises(exceptions.InvalidRequest, bodies.check_image,
                              content)


class ImportTest(testtools.TestCase):

    def test_sound(self) -> None:
        for content in (None, {}, {'method': {'name': 'glance-direct'}},
                        {'method': {'name': 'web-download', 'uri': 'http://a'},
                         'stores': ['a'], 'all_stores': 'Glance says so'},
                        {'method': {'name': 'x', 'uri': None},
                         'stores': None}):
            bodies.check_import(content)

    def test_other_forms(self) -> None:
        for content, word in (
                ([], 'body'), ('a', 'body'), ({'method': 4}, '"method"'),
                ({'method': None}, '"method"'),
                ({'method': {'name': []}}, '"name"'),
                ({'method': {'uri': 3}}, '"uri"'),
                ({'stores': 'a'}, '"stores"'), ({'stores': 5}, '"stores"'),
                ({'stores': [1]}, 'store')):
            error = self.assertRaises(exceptions.InvalidRequest,
                                      bodies.check_import, content)
            self.assertIn(word, str(error))


class ChangesTest(testtools.TestCase):

    def test_pointers(self) -> None:
        for media_type, change in ((V21, {'op': 'add', 'path': '/a'}),
                                   (V20, {'add': '/a'}),
                                   (V20, {'remove': '/a'})):
            bodies.check_changes([change], media_type)

    def test_json(self) -> None:
        """The manual knows no other media type."""
        self.assertEqual(V21, bodies.type_of_changes([], 'application/json'))
        for content, media_type in (({}, 'application/json'), ([], V20),
                                    ([], 'text/plain'), ([], '')):
            self.assertEqual(media_type,
                             bodies.type_of_changes(content, media_type))

    def test_other_pointers(self) -> None:
        for media_type, name in ((V21, 'path'), (V20, 'add'),
                                 (V20, 'replace'), (V20, 'remove')):
            for pointer in (None, 3, [], {'a': 1}, True):
                error = self.assertRaises(
                    exceptions.InvalidRequest, bodies.check_changes,
                    [{'op': 'add', name: pointer}], media_type)
                self.assertIn(f'"{name}"', str(error))

    def test_what_glance_says_by_itself(self) -> None:
        for content in (None, {}, 'a', [1, None, []]):
            bodies.check_changes(content, V21)
        bodies.check_changes([{'path': 3}], 'application/json')
