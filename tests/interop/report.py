"""What a comparison found, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.interop import outcome
from tests.interop import verdict as verdict_module

BASE = verdict_module.BASE
OURS = verdict_module.OURS


def show(verdict: verdict_module.Verdict, seconds: Mapping[str, float],
         whole: bool) -> None:
    """Print the skips, what tells the two apart, and the closing table.

    :param seconds: how long each took, by name
    :param whole: whether all tests were run, and not a choice of them
    """
    print('\nSkipped:')
    for name, where, why in verdict.skips():
        print(f'  {name}\n      {where}: {why}')
    _names('Fails on both', verdict.broken)
    _names(f'Passes on {OURS} only', verdict.gained)
    _names(f'Fails on {OURS} at first, passes alone', verdict.unsteady)
    _names(f'Fails on {OURS} only', verdict.failed)
    _names(f'LOST: passes on {BASE}, not on {OURS}', verdict.lost)
    if whole and not verdict.ran_enough:
        print(f'\nFewer than {verdict_module.FLOOR} pass on {BASE}: the '
              'suites were not run as they are meant to be.')
    _table(verdict, seconds)


def show_refusals(refusals: Mapping[str, str]) -> None:
    """Print what the policy file refuses, and what fails for no refusal."""
    for kind in sorted(set(refusals.values())):
        _names(f'Fails with the policy file: {kind or "FOR NO REFUSAL"}',
               [name for name, why in refusals.items() if why == kind])


def _names(title: str, names: Sequence[str]) -> None:
    if names:
        print(f'\n{title}:')
        for name in names:
            print(f'  {name}')


def _table(verdict: verdict_module.Verdict,
           seconds: Mapping[str, float]) -> None:
    kinds = (outcome.PASSED, outcome.SKIPPED, outcome.FAILED)
    print(f'\n{"server":<12}' + ''.join(f'{kind:>9}' for kind in kinds)
          + f'{"seconds":>9}')
    for name, outcomes in ((BASE, verdict.base), (OURS, verdict.ours)):
        print(f'{name:<12}' + ''.join(
            f'{len(verdict.names(kind, outcomes)):>9}' for kind in kinds)
            + f'{seconds[name]:>9.0f}')
    print(f'\n{len(verdict.lost)} lost, {len(verdict.failed)} more fail, '
          f'{len(verdict.gained)} gained')
