"""What two runs say of each other, and what makes the comparison fail."""

from __future__ import annotations

import testtools

from tests.interop import outcome
from tests.interop import verdict

PASSED, FAILED, SKIPPED = (
    outcome.Outcome(outcome.PASSED), outcome.Outcome(outcome.FAILED, 'why'),
    outcome.Outcome(outcome.SKIPPED, 'no such service'))


def judge(base: dict[str, outcome.Outcome],
          ours: dict[str, outcome.Outcome]) -> verdict.Verdict:
    return verdict.Verdict(base, ours)


class VerdictTest(testtools.TestCase):

    def test_the_same(self) -> None:
        both = {'a': PASSED, 'b': SKIPPED, 'c': FAILED}
        judged = judge(both, both)
        self.assertTrue(judged.good)
        self.assertEqual(['c'], judged.broken)
        self.assertEqual([('b', 'on both', 'no such service')],
                         list(judged.skips()))

    def test_whatever_does_not_pass_is_lost(self) -> None:
        for ours in ({'a': FAILED}, {'a': SKIPPED}, {}):
            judged = judge({'a': PASSED}, ours)
            self.assertEqual(['a'], judged.lost)
            self.assertFalse(judged.good)

    def test_what_fails_here_only_counts(self) -> None:
        for base in ({'a': SKIPPED}, {}):
            judged = judge(base, {'a': FAILED})
            self.assertEqual(([], ['a'], False), (
                judged.lost, judged.failed, judged.good))

    def test_gained(self) -> None:
        judged = judge({'a': FAILED, 'b': SKIPPED}, {'a': PASSED, 'b': PASSED})
        self.assertEqual((['a', 'b'], True), (judged.gained, judged.good))
        self.assertEqual([('b', 'on vanilla', 'no such service')],
                         list(judged.skips()))

    def test_a_second_chance(self) -> None:
        judged = judge({'a': PASSED, 'b': PASSED},
                       {'a': FAILED, 'b': FAILED}).after(
                           {'a': PASSED, 'b': FAILED})
        self.assertEqual((['b'], ['a'], False), (
            judged.lost, judged.unsteady, judged.good))

    def test_enough(self) -> None:
        for number, enough in ((verdict.FLOOR - 1, False),
                               (verdict.FLOOR, True)):
            some = {str(name): PASSED for name in range(number)}
            self.assertIs(enough, judge(some, some).ran_enough)

    def test_refusals(self) -> None:
        """With a policy file, a test may fail because it is refused."""
        def failed(why: str) -> outcome.Outcome:
            return outcome.Outcome(outcome.FAILED, why)

        forbidden = ('Traceback\ntempest.lib.exceptions.Forbidden: Forbidden'
                     "\nDetails: {'message': 'You are not authorized to "
                     "complete %s action.', 'code': 403}")
        judged = judge(dict.fromkeys('abcefgh', PASSED), {
            'a': failed(forbidden % 'add_image'),
            # What the policy file says nothing of.
            'e': failed(forbidden % 'delete_image'),
            'f': failed('tempest.lib.exceptions.Forbidden: Forbidden'),
            'g': failed(forbidden % 'easystack_image:stage_image'),
            'h': failed('Captured: ' + forbidden % 'add_image' + '\nAsser'
                        'tionError: something else'),
            'b': failed("Details: b'Images of disk_format vhd are not "
                        "allowed here; allowed are: iso'"),
            'c': failed('AssertionError: Forbidden was expected'),
            'd': failed('')})
        self.assertEqual({
            'a': "a member's upload",
            'b': 'a format that the manual leaves out', 'c': '', 'd': '',
            'e': '', 'f': '', 'g': "a member's upload", 'h': ''},
            judged.refusals())
