"""The order of classes, and what keeps them from having one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import registry


def hook(name: str, points: Sequence[str] = ('at-check',),
         **others: Any) -> registry.Found:
    kind = type('Mine', (base.Hook,), {
        'name': name, 'points': points, 'run': lambda self, context: None,
        '__doc__': 'Does it.\n\nIn detail.', **others})
    return registry.Found(name, kind)


class OrderTest(testtools.TestCase):

    def names(self, *found: registry.Found) -> list[str]:
        return [each.name for each in registry.in_order(found)]

    def refuse(self, found: Sequence[registry.Found], *words: str) -> None:
        error = self.assertRaises(exceptions.InvalidHooks,
                                  registry.in_order, found)
        for word in words:
            self.assertIn(word, str(error))

    def test_by_name(self) -> None:
        self.assertEqual(['a', 'b', 'c'],
                         self.names(hook('c'), hook('a'), hook('b')))

    def test_after_and_before(self) -> None:
        self.assertEqual(['b', 'c', 'a'], self.names(
            hook('a', after=('c',)), hook('b'), hook('c')))
        self.assertEqual(['c', 'a', 'b'], self.names(
            hook('a'), hook('b'), hook('c', before=('a', 'b'))))

    @hypothesis.given(strategies.permutations('abcdefgh'))
    def test_always_the_same(self, names: list[str]) -> None:
        waiting = {'a': ('h',), 'c': ('b', 'f'), 'h': ('g',)}
        found = self.names(*(hook(name, after=waiting.get(name, ()))
                             for name in names))
        self.assertEqual(list('bdefgcha'), found)

    def test_two_with_one_name(self) -> None:
        self.refuse([hook('a'), hook('a')], 'two hooks', 'the name a')

    def test_one_that_does_not_exist(self) -> None:
        for name in ('after', 'before'):
            self.refuse([hook('a', **{name: ('z',)})], 'a is to run', ' z,',
                        'not installed')

    def test_circle(self) -> None:
        self.refuse([hook('a', after=('b',)), hook('b', after=('c',)),
                     hook('c', after=('a',)), hook('d')], 'no order', 'a', 'b')
        self.refuse([hook('a', after=('a',))], 'no order', 'a, a')
        self.refuse([hook('a', after=('b',), before=('b',)), hook('b')],
                    'no order')

    def test_points(self) -> None:
        self.refuse([hook('a', ('at-lunch',))], 'a: ', 'at-lunch')
        self.refuse([hook('a', ())], 'no point')
        self.refuse([hook('a', 'at-check')], 'tuple')

    def test_kinds(self) -> None:
        self.refuse([hook('a', kinds=('party',))], 'kinds', 'rollback')
        self.refuse([hook('a', kinds=())], 'kinds')
        self.refuse([hook('a', kinds='upgrade')], 'tuple')

    def test_timeout(self) -> None:
        for value in (0, -1, float('nan'), float('inf'), 1e9, 'long'):
            self.refuse([hook('a', timeout=value)], 'timeout')

    def test_no_hook(self) -> None:
        self.refuse([registry.Found('a', object)], 'a is no class')
        self.refuse([registry.Found('a', base.Hook)], 'no method run')
        self.refuse([registry.Found('b', hook('a').kind)], "'a'")
        self.refuse([hook('A')], "'A'")
        nameless = type('Mine', (base.Hook,), {
            'run': lambda self, context: None})
        self.refuse([registry.Found('a', nameless)], 'its name')

    def test_listed(self) -> None:
        found = hook('a', timeout=5, required=False).listed()
        self.assertEqual(('a', ('at-check',), 5, False, False, 'Does it.'), (
            found.name, found.points, found.timeout, found.required,
            found.overridable, found.summary))


class InstalledTest(testtools.TestCase):

    def test_ours(self) -> None:
        """They go together, and each says what it is for."""
        found = registry.load()
        names = [each.name for each in found]
        for first, second in (('configuration', 'policy'),
                              ('replica-format', 'copies'),
                              ('policy', 'upgrade-check'),
                              ('configuration', 'database-check')):
            self.assertLess(names.index(first), names.index(second))
        for each in found:
            self.assertNotEqual('', each.listed().summary)
        self.assertEqual({'easystack_image'},
                         {each.package for each in found})
