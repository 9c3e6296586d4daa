"""What a release may say of itself."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.ota.release import declaration as declarations

GOOD = declarations.Declaration(
    '1.2.0', 7, 5, (declarations.Phase.EXPAND, declarations.Phase.CONTRACT),
    ('3.11', '3.12'), (3, 4), {
        'requirements.lock': declarations.File(10, 'a' * 64),
        'wheels/x-1-py3-none-any.whl': declarations.File(0, 'b' * 64),
        'config/a/b.conf': declarations.File(1, 'c' * 64)})


class DeclarationTest(testtools.TestCase):

    def assertInvalid(self, changes: dict[str, Any], *words: str) -> None:
        record = {**json.loads(GOOD.dump()), **changes}
        error = self.assertRaises(
            exceptions.InvalidRelease, declarations.load,
            json.dumps(record).encode())
        for word in words:
            self.assertIn(word, str(error))

    def test_round_trip(self) -> None:
        self.assertEqual(GOOD, declarations.load(GOOD.dump()))
        self.assertEqual(GOOD.dump(), declarations.load(GOOD.dump()).dump())

    def test_few_fields(self) -> None:
        self.assertEqual(
            declarations.Declaration('1', 1, python=('3.11',)),
            declarations.from_fields({'version': '1', 'number': 1,
                                      'python': ['3.11']}))

    def test_versions(self) -> None:
        for version in ('1', '1.2.3', '33.0.0', '1.2.0rc1', '1.0.dev5',
                        '2026.2', '1.0a1', '1.0.post1', '1.0b2.dev3'):
            dataclasses.replace(GOOD, version=version)
        for version in ('v1', '1-2', '1.0+local', '1..2', '1.0.0.0.0.0.0',
                        'latest', '1' * 65, '1.0 ', '\u0661'):
            self.assertInvalid({'version': version}, 'version')

    def test_types(self) -> None:
        for name, value in (
                ('version', 1), ('version', None), ('number', '7'),
                ('number', True), ('number', 7.0), ('minimum', None),
                ('database', 'expand'), ('database', [1]),
                ('python', '3.11'), ('python', [3.11]), ('revokes', [True]),
                ('revokes', {}), ('files', []), ('files', None)):
            self.assertInvalid({name: value}, name)

    def test_values(self) -> None:
        for name, value in (
                ('number', 0), ('number', -1), ('minimum', 7),
                ('minimum', -1), ('database', ['shrink']),
                ('database', ['contract', 'expand']),
                ('database', ['expand', 'expand']), ('python', []),
                ('python', ['2.7']), ('python', ['3.11.1']),
                ('revokes', [7]), ('revokes', [0])):
            self.assertInvalid({name: value}, name)

    def test_files(self) -> None:
        for file in ({}, {'size': 1}, {'size': '1', 'sha256': 'a' * 64},
                     {'size': -1, 'sha256': 'a' * 64},
                     {'size': True, 'sha256': 'a' * 64},
                     {'size': 1, 'sha256': 'A' * 64},
                     {'size': 1, 'sha256': 'a' * 63},
                     {'size': 1, 'sha256': 'a' * 64, 'mode': 7}):
            self.assertInvalid({'files': {'config/x': file}}, 'config/x')

    def test_lacking_and_unknown(self) -> None:
        for name in ('version', 'number', 'python'):
            record = json.loads(GOOD.dump())
            del record[name]
            error = self.assertRaises(
                exceptions.InvalidRelease, declarations.from_record, record)
            self.assertIn(name, str(error))
        self.assertInvalid({'digital': 1}, 'digital', 'known are')

    def test_other_formats_and_products(self) -> None:
        for value in (0, 2, '1', None):
            self.assertInvalid({'format': value}, 'upgrade the updater')
        self.assertInvalid({'product': 'nova'}, 'nova')

    def test_nonsense(self) -> None:
        for data in (b'', b'[]', b'null', b'"x"', b'\xff', b'{'):
            self.assertRaises(exceptions.InvalidRelease, declarations.load,
                              data)

    @given(strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.integers()
        | strategies.text(max_size=5),
        lambda inner: strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(
            sorted(GOOD.record())), inner, max_size=9), max_leaves=12))
    def test_whatever_it_is(self, record: Any) -> None:
        """There is a declaration, or an error that says why not."""
        if isinstance(record, dict):
            record = {**GOOD.record(), **record}
        try:
            found = declarations.from_record(record)
        except exceptions.InvalidRelease:
            return
        self.assertEqual(found, declarations.load(found.dump()))
