"""Points, and what hooks are told."""

from __future__ import annotations

import dataclasses
import json

import testtools

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import testing
from easystack_image.ota.journal.records import Step


class PointTest(testtools.TestCase):

    def test_names(self) -> None:
        self.assertEqual('before-hand-over', base.Point.before(
            Step.HAND_OVER))
        self.assertEqual('at-expand', base.Point.at(Step.EXPAND))
        self.assertEqual('after-commit', base.Point.after(Step.COMMIT))
        self.assertEqual(len(set(base.Point.ALL)), len(base.Point.ALL))
        for name in base.Point.ALL:
            self.assertEqual(name, base.Point(name))

    def test_unknown(self) -> None:
        error = self.assertRaises(exceptions.InvalidHooks, base.Point,
                                  'before-lunch')
        self.assertIn('before-lunch', str(error))
        self.assertIn('before-preflight', str(error))

    def test_where_nothing_can_be_decided(self) -> None:
        self.assertEqual(
            ['after-commit', 'after-rollback', 'before-rollback'],
            sorted(name for name in base.Point.ALL
                   if not base.Point(name).decides))


class ContextTest(testtools.TestCase):

    def test_both_ways(self) -> None:
        context = testing.context(
            'at-expand', origin=None, slot='/opt/2', attempt=3,
            config_files=('/a', '/b'), phases=('expand',), forced=('x',),
            archive_bytes=5, reason='why', notify_url='https://example.org')
        found = base.Context.from_record(
            json.loads(json.dumps(context.record())))
        self.assertEqual(context, found)
        self.assertIsInstance(found.point, base.Point)

    def test_of_a_later_updater(self) -> None:
        context = testing.context('at-expand')
        self.assertEqual(context, base.Context.from_record(
            context.record() | {'weather': 'fine'}))

    def test_malformed(self) -> None:
        record = testing.context('at-expand').record()
        for damage in ({'point': 'at-lunch'}, {'kind': 'party'}):
            self.assertRaises(exceptions.InvalidHooks,
                              base.Context.from_record, record | damage)
        for field in ('point', 'target'):
            self.assertRaises(
                exceptions.InvalidHooks, base.Context.from_record,
                {name: value for name, value in record.items()
                 if name != field})

    def test_all_fields_are_documented(self) -> None:
        """What is told to executables, and what to classes alone."""
        from easystack_image.ota.hooks import executables
        told = executables.environment(testing.context('at-expand'))
        fields = {field.name for field in dataclasses.fields(base.Context)}
        self.assertEqual(
            len(fields - {'archive_bytes', 'notify_url'}), len(told))
