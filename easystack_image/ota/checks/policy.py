"""Whether the deployment's policy files suit the rules of a release.

Rules are looked up by their names: one that the release does not have, be it
misspelt or gone, is never asked, and what it was to forbid is allowed or
forbidden by the default.  That is what an upgrade must not change unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import difflib
import graphlib
import os
import re
from typing import Any

from oslo_config import cfg
from oslo_policy import policy
import stevedore

from easystack_image import exceptions
from easystack_image.ota import checks

_RULES = 'oslo.policy.policies'
#: Whose rules the files may override.
_OURS = ('glance', 'easystack_image')
_REFERENCE = re.compile(r'(?<![\w.-])rule:([^\s()]+)')

#: The text of rules, and the file each is in.
Files = dict[str, tuple[Any, str]]


def findings(conf: cfg.ConfigOpts) -> list[checks.Finding]:
    """Return what is wrong with policy files.

    :param conf: Glance's configuration, read already
    """
    rules, found = read(conf)
    try:
        defaults = _defaults()
    except exceptions.ConfigurationError as error:
        return [*found, checks.Finding(True, str(error))]
    return [*found, *_judge(rules, defaults)]


def read(conf: cfg.ConfigOpts) -> tuple[Files, list[checks.Finding]]:
    """Return the rules in policy files, and which of these cannot be read.

    :param conf: Glance's configuration, read already
    """
    # Registers the options of the group.
    policy.Enforcer(conf)
    found: list[checks.Finding] = []
    rules: Files = {}
    for path in _paths(conf):
        try:
            rules.update(_read(path))
        except (OSError, ValueError) as error:
            found.append(checks.Finding(
                True, f'{path} cannot be read: {error}'))
    return rules, found


def _paths(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield the policy files, in the order in which they count."""
    path = conf.find_file(conf.oslo_policy.policy_file)
    if path:
        yield path
    for name in conf.oslo_policy.policy_dirs:
        directory = conf.find_file(name)
        if directory and os.path.isdir(directory):
            yield from (
                os.path.join(directory, each)
                for each in sorted(os.listdir(directory))
                if not each.startswith('.')
                and os.path.isfile(os.path.join(directory, each)))


def _read(path: str) -> Files:
    with open(path, encoding='utf-8') as file:
        rules = policy.parse_file_contents(file.read())
    if not isinstance(rules, dict):
        raise ValueError('it has no rules by their names')
    return {str(name): (text, path) for name, text in rules.items()}


def _defaults() -> dict[str, policy.RuleDefault]:
    """Return the rules of this release, by their names."""
    def fail(_: object, entry_point: Any, error: BaseException) -> None:
        raise exceptions.ConfigurationError(
            f'the policy of {entry_point.name} cannot be loaded: {error!r}')

    manager: stevedore.NamedExtensionManager[Any] = (
        stevedore.NamedExtensionManager(
            _RULES, _OURS, on_load_failure_callback=fail,
            warn_on_missing_entrypoint=False))
    found = {rule.name: rule for each in manager.extensions
             for rule in each.plugin()}
    if not set(_OURS) <= {each.name for each in manager.extensions}:
        raise exceptions.ConfigurationError(
            'the policy of Glance is not there: install it beside '
            'easystack-image')
    return found


def _judge(rules: Files, defaults: Mapping[str, policy.RuleDefault],
           ) -> Iterator[checks.Finding]:
    texts = {name: default.check_str for name, default in defaults.items()}
    for name, (text, path) in rules.items():
        try:
            check = str(policy.Rules.from_dict({name: text})[name])
        except TypeError:
            # A number, say: whoever asks for the rule gets an error.
            check = '!'
        if check == '!' and text != '!':
            # oslo.policy forbids what it cannot read.
            yield checks.Finding(True, f'{name} in {path} is malformed: '
                                       f'{text!r}')
        texts[name] = check
    references = {name: _REFERENCE.findall(text)
                  for name, text in texts.items()}
    used = {name for each in references.values() for name in each}
    renamed = {default.deprecated_rule.name: default
               for default in defaults.values() if default.deprecated_rule}
    for name, (_, path) in rules.items():
        if name not in defaults and name not in used:
            yield _unknown(name, path, defaults, renamed)
        elif name in defaults and defaults[name].deprecated_for_removal:
            yield checks.Finding(False, f'{name} in {path} is deprecated, '
                                        'and goes')
        yield from (checks.Finding(
            True, f'{name} in {path} refers to the rule {other}, which does '
            'not exist') for other in references[name] if other not in texts)
    yield from _cycles(references, rules)


def _unknown(name: str, path: str,
             defaults: Mapping[str, policy.RuleDefault],
             renamed: Mapping[str, policy.RuleDefault]) -> checks.Finding:
    if name in renamed:
        return checks.Finding(False, f'{name} in {path} is deprecated: call '
                                     f'it {renamed[name].name}')
    close = difflib.get_close_matches(name, defaults, 1)
    return checks.Finding(
        True, f'{name} in {path} is no rule of this release, and has no '
        'effect: remove it, or ' + (
            f'call it {close[0]}' if close else 'look for what replaces it'))


def _cycles(references: Mapping[str, list[str]], rules: Files,
            ) -> Iterator[checks.Finding]:
    waiting = {name: [other for other in others if other in references]
               for name, others in references.items()}
    while True:
        try:
            graphlib.TopologicalSorter(waiting).prepare()
            return
        except graphlib.CycleError as error:
            circle = list(reversed(error.args[1]))
        paths = sorted({rules[name][1] for name in circle if name in rules})
        yield checks.Finding(
            True, f'rules in {", ".join(paths)} refer to each other in a '
            'circle: ' + ' -> '.join(circle))
        for name in circle:
            waiting[name] = []
