"""What two runs of the same tests say of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import re

from tests.interop import outcome

#: What the servers are called: Glance as it comes, and with all of ours.
BASE = 'vanilla'
OURS = 'easystack'

#: Fewer that pass on Glance as it comes: then the tests were not run as they
#: are meant to be, and the comparison would say nothing.
FLOOR = 240

#: What the policy file for uploads says no to, by the rule that tempest hears
#: of, and what the gate says to formats that the manual does not know.
_UPLOADS = ('add_image', 'upload_image', 'easystack_image:stage_image',
            'easystack_image:import_image', 'add_image_location',
            'set_image_location', 'copy_image', 'tasks_api_access')
_REFUSALS = {
    "a member's upload": re.compile(
        r'^tempest\.lib\.exceptions\.Forbidden: [^\n]*\n'
        r'Details: .*You are not authorized to complete '
        # The last word: what went wrong in the end.
        rf'({"|".join(_UPLOADS)}) action[^\n]*\Z', re.MULTILINE),
    'a format that the manual leaves out': re.compile(
        r'Images of (disk|container)_format \w+ are not allowed here')}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The names of the tests that tell the two servers apart.

    :param base: what became of the tests on the server to compare with
    :param ours: and on ours
    :param unsteady: tests that failed on ours, and passed when run again
    """

    base: outcome.Outcomes
    ours: outcome.Outcomes
    unsteady: Sequence[str] = ()

    def ours_of(self, name: str) -> outcome.Outcome:
        """Return what became of a test on ours."""
        return self.ours.get(name, outcome.Outcome(outcome.FAILED, 'not run'))

    def after(self, again: outcome.Outcomes) -> Verdict:
        """Return the verdict when tests of ours have been run again."""
        passed = self.names(outcome.PASSED, again)
        return dataclasses.replace(
            self, ours=dict(self.ours) | {name: again[name]
                                          for name in passed},
            unsteady=sorted(passed))

    @staticmethod
    def names(what: str, outcomes: outcome.Outcomes) -> set[str]:
        """Return the tests of which this became."""
        return {name for name, became in outcomes.items()
                if became.what == what}

    @property
    def lost(self) -> list[str]:
        """Tests that pass there and do not here, for whatever reason."""
        return sorted(self.names(outcome.PASSED, self.base)
                      - self.names(outcome.PASSED, self.ours))

    @property
    def failed(self) -> list[str]:
        """Tests that fail here and do not there, the lost ones aside."""
        return sorted(self.names(outcome.FAILED, self.ours)
                      - self.names(outcome.FAILED, self.base)
                      - set(self.lost))

    @property
    def broken(self) -> list[str]:
        """Tests that fail on both, or that fail there and are skipped."""
        return sorted(self.names(outcome.FAILED, self.base)
                      - self.names(outcome.PASSED, self.ours))

    @property
    def gained(self) -> list[str]:
        """Tests that pass here and do not there."""
        return sorted(self.names(outcome.PASSED, self.ours)
                      - self.names(outcome.PASSED, self.base))

    @property
    def ran_enough(self) -> bool:
        """Whether enough tests pass to make it a comparison."""
        return len(self.names(outcome.PASSED, self.base)) >= FLOOR

    @property
    def good(self) -> bool:
        """Whether ours keeps every promise that the other one keeps."""
        return not self.lost and not self.failed

    def refusals(self) -> dict[str, str]:
        """Return why tests do not pass here, by name; '' if for no refusal.

        With the policy file of the manual, that is all that may be.
        """
        found = {}
        for name in sorted({*self.lost, *self.failed}):
            why = self.ours_of(name).why
            found[name] = next((kind for kind, words in _REFUSALS.items()
                                if words.search(why)), '')
        return found

    def skips(self) -> Iterator[tuple[str, str, str]]:
        """Yield each test that is skipped: its name, where, and why."""
        for name in sorted(self.names(outcome.SKIPPED, self.base)
                           | self.names(outcome.SKIPPED, self.ours)):
            reasons = [outcomes[name].why if name in self.names(
                outcome.SKIPPED, outcomes) else None
                for outcomes in (self.base, self.ours)]
            where = (f'on {OURS}' if reasons[0] is None else
                     f'on {BASE}' if reasons[1] is None else 'on both')
            yield name, where, ' / '.join(dict.fromkeys(
                reason for reason in reasons if reason is not None))
