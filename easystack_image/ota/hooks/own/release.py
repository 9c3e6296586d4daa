"""Whether a release can serve here: its checks, options, pipeline, policy."""

from __future__ import annotations

from collections.abc import Sequence
import json

from easystack_image import exceptions
from easystack_image.ota import checks
from easystack_image.ota.checks import configuration
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks.own import programs

_STATUS = 'easystack-image-status'
_WARNING, _FAILURE = 1, 2
#: Checks of ``upgrade check`` that are hooks of their own here, to be forced
#: one by one; and before an upgrade the database needs what it will get.
_OTHERS = ('Database', 'Options', 'Pipeline', 'Policies')


class Configuration(base.Hook):
    """See whether the release understands Glance's configuration files.

    The paste pipeline is made, too, as far as it can be without serving.
    """

    name = 'configuration'
    points = ('at-check',)
    kinds = base.FORWARD
    overridable = True

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        found = configuration.findings(context.config_files,
                                       context.config_dirs)
        if not any(each.serious for each in found):
            # Filters are the deployer's code.
            found += _ask(context, 'pipeline')
        return _judge(found)


class Policy(base.Hook):
    """Compare the policy files with the rules of the release."""

    name = 'policy'
    points = ('at-check',)
    after = ('configuration',)
    kinds = base.FORWARD
    overridable = True

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        return _judge(_ask(context, 'policy'))


class UpgradeCheck(base.Hook):
    """Run "easystack-image-status upgrade check" of the release."""

    name = 'upgrade-check'
    points = ('at-check',)
    after = ('configuration', 'policy', 'replica-format')
    kinds = base.FORWARD
    overridable = True

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        done = programs.run(context, _STATUS, 'upgrade', 'check', '--json')
        try:
            results = json.loads(done.stdout.strip().splitlines()[-1])
            found = [checks.Finding(each['result'] >= _FAILURE,
                                    f'{each["check"]}: {each["details"]}')
                     for each in results['checks']
                     if each['result'] >= _WARNING
                     and each['check'] not in _OTHERS]
        except (IndexError, KeyError, TypeError, ValueError):
            raise exceptions.HookFailed(
                f'{_STATUS} failed: {programs.last_words(done)}') from None
        return _judge(found)


def _ask(context: base.Context, what: str) -> list[checks.Finding]:
    """Return what ``python -m easystack_image.ota.checks`` finds.

    As the user of the service: what Glance's files name is run by that, and
    whoever may write to them must not become root so.

    :raises easystack_image.exceptions.HookFailed: if it does not say
    """
    done = programs.run_module(context, checks.__name__, what)
    try:
        return checks.from_json(done.stdout)
    except ValueError:
        raise exceptions.HookFailed(
            f'the check of the {what} failed: '
            f'{programs.last_words(done)}') from None


def _judge(found: Sequence[checks.Finding]) -> str | None:
    """Return what is to be looked at.

    :raises easystack_image.exceptions.HookFailed: if something is serious
    """
    serious = [each.text for each in found if each.serious]
    if serious:
        raise exceptions.HookFailed('; '.join(serious))
    return '; '.join(each.text for each in found) or None
