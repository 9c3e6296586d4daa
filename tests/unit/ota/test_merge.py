"""What a release means for configuration files that were edited."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fixtures
import hypothesis
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.ota import merge

Change, State = merge.Change, merge.State
_LINES = strategies.lists(strategies.sampled_from('abcde'), max_size=12)
_NAMES = {'origin': '1.0', 'target': '1.1', 'operator': 'yours'}


def changes(origin: str, target: str, operator: str,
            ) -> list[tuple[str, str, str, str]]:
    """Return what was changed by whom, where each letter is a line."""
    return [(part.change, ''.join(part.origin), ''.join(part.target),
             ''.join(part.operator))
            for part in merge.merge(origin, target, operator)
            if part.change is not Change.NOBODY]


class MergeTest(testtools.TestCase):

    def test_parts(self) -> None:
        for origin, target, operator, expected in (
                ('abc', 'abc', 'abc', []),
                ('', '', '', []),
                ('abc', 'abc', 'aXc', [('operator', 'b', 'b', 'X')]),
                ('abc', 'aYc', 'abc', [('release', 'b', 'Y', 'b')]),
                ('abc', 'aZc', 'aZc', [('both', 'b', 'Z', 'Z')]),
                ('abc', 'aYc', 'aXc', [('conflict', 'b', 'Y', 'X')]),
                ('abcde', 'Ybcde', 'abcdX', [('release', 'a', 'Y', 'a'),
                                             ('operator', 'e', 'e', 'X')]),
                ('abc', 'abcY', 'Xabc', [('operator', '', '', 'X'),
                                         ('release', '', 'Y', '')]),
                # Both add at one place: in which order, nobody knows.
                ('ab', 'aYb', 'aXb', [('conflict', '', 'Y', 'X')]),
                ('abc', 'ac', 'aXc', [('conflict', 'b', '', 'X')]),
                ('abc', 'ac', 'abc', [('release', 'b', '', 'b')])):
            self.assertEqual(expected, changes(origin, target, operator),
                             (origin, target, operator))

    def test_lines(self) -> None:
        parts = list(merge.merge('abcd', 'abYcd', 'XXabcZ'))
        self.assertEqual(
            [('operator', 1), ('nobody', 3), ('release', 5), ('nobody', 5),
             ('operator', 6)], [(part.change, part.line) for part in parts])

    @hypothesis.settings(max_examples=300, deadline=None)
    @hypothesis.given(_LINES, _LINES, _LINES)
    def test_nothing_is_lost(self, origin: Sequence[str],
                             target: Sequence[str],
                             operator: Sequence[str]) -> None:
        parts = list(merge.merge(origin, target, operator))
        for side, lines in (('origin', origin), ('target', target),
                            ('operator', operator)):
            self.assertEqual(list(lines), [
                line for part in parts for line in getattr(part, side)])
        for part in parts:
            self.assertTrue(len(part))
            self.assertEqual(part.line, 1 + sum(
                len(each.operator) for each in parts[:parts.index(part)])
                if parts.count(part) == 1 else part.line)

    @hypothesis.settings(max_examples=300, deadline=None)
    @hypothesis.given(_LINES, _LINES)
    def test_one_side_wins_where_the_other_did_nothing(
            self, origin: Sequence[str], other: Sequence[str]) -> None:
        for target, operator in ((origin, other), (other, origin)):
            report = merge.Report('x', State.MERGE, tuple(
                merge.merge(origin, target, operator)))
            self.assertEqual(0, report.lines(Change.CONFLICT))
            self.assertEqual(list(other),
                             merge.merged(report, _NAMES).splitlines())

    def test_marks(self) -> None:
        report = merge.Report('x', State.CONFLICT, tuple(
            merge.merge('abc', 'aYc', 'aXc')))
        self.assertEqual(
            ['a', '<<<<<<< yours', 'X', '||||||| 1.0', 'b', '=======', 'Y',
             '>>>>>>> 1.1', 'c'], merge.merged(report, _NAMES).splitlines())


class CompareTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)

    def state(self, origin: str | None, target: str | None,
              operator: str | None) -> State | None:
        """Return what is said of a file in a folder; None: there is none."""
        for side, text in (('origin', origin), ('target', target),
                           ('operator', operator)):
            path = self.root / side / 'policy.d' / 'x.yaml'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        reports = merge.compare(*(self.root / side for side in (
            'origin', 'target', 'operator')))
        self.assertIn([report.name for report in reports],
                      ([], ['policy.d/x.yaml']))
        return reports[0].state if reports else None

    def test_states(self) -> None:
        for origin, target, operator, expected in (
                ('a\nb\n', 'a\nb\n', 'a\nb\n', State.SAME),
                ('a\nb\n', 'a\nb\n', 'a\nX\n', State.SAME),
                ('a\nb\n', 'a\nY\n', 'a\nb\n', State.OUTDATED),
                ('a\nb\n', 'a\nY\n', 'a\nY\n', State.DONE),
                ('a\nb\n', 'a\nY\n', 'a\nX\n', State.CONFLICT),
                ('a\nb\nc\n', 'Y\nb\nc\n', 'a\nb\nX\n', State.MERGE),
                (None, 'a\n', None, State.NEW),
                (None, 'a\n', 'a\n', State.DONE),
                (None, 'a\n', 'b\n', State.CONFLICT),
                ('a\n', None, 'a\n', State.GONE),
                # Nobody has it, or the operator does without.
                ('a\n', None, None, None),
                ('a\n', 'b\n', None, None)):
            self.assertEqual(expected, self.state(origin, target, operator),
                             (origin, target, operator))

    def test_only_lines_end_lines(self) -> None:
        text = 'a # x\u2028y\x85z\x0c\x0b\nb\n'
        self.assertIs(State.OUTDATED,
                      self.state(text, text + 'c\n', text))
        report, = merge.compare(*(self.root / side for side in (
            'origin', 'target', 'operator')))
        self.assertEqual(text + 'c\n', merge.merged(report, _NAMES))

    def test_ends_as_windows_has_them(self) -> None:
        self.assertIs(State.OUTDATED, self.state('a\nb\n', 'a\nc\n',
                                                 'a\r\nb\r\n'))

    def test_empty(self) -> None:
        self.assertIs(State.OUTDATED, self.state('', 'a\n', ''))

    def test_what_cannot_be_read(self) -> None:
        self.state('a\n', 'a\n', 'a\n')
        path = self.root / 'operator' / 'policy.d' / 'x.yaml'
        for data in (b'\xff\xfe', b'a' * (merge.LIMIT + 1)):
            path.write_bytes(data)
            error = self.assertRaises(
                exceptions.ConfigurationError, merge.compare,
                *(self.root / side for side in ('origin', 'target',
                                                'operator')))
            self.assertIn(str(path), str(error))
