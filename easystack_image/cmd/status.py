"""``easystack-image-status upgrade check``: whether all is well.

Exit codes, as oslo.upgradecheck has them: 0 if all is well, 1 if there is
something to look at, 2 if something is broken and stops an upgrade, 255 if
the check itself failed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
import importlib.metadata
import logging
import os
import re
import sys
from typing import Any
import warnings

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck
import stevedore

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore import loading
from easystack_image.cmd import deployment
from easystack_image.conf import stores
from easystack_image.ota.checks import requirements

Result = upgradecheck.Result
Code = upgradecheck.Code
CRITICAL = engine_module.Severity.CRITICAL

#: The check itself could not be made.
FAILED = 255
#: What this release was tested with.
PYTHON = ((3, 11), (3, 13))
GLANCE = (32, 33)
#: What the hosts look up by name.
ENTRY_POINTS = (
    ('glance_store.drivers', stores.DRIVER),
    (loading.NAMESPACE, 'local'),
    ('oslo.middleware.healthcheck', 'easystack_block'),
    ('oslo.middleware.healthcheck', 'easystack_ota'),
    ('oslo.policy.policies', 'easystack_image'),
    ('glance.image_import.plugins', 'easystack_content'),
    ('paste.app_factory', 'easystack_images'),
    *(('paste.filter_factory', f'easystack_{name}') for name in (
        'api', 'content', 'copies', 'export', 'ota', 'properties',
        'uploads')),
)
#: Which problems (by the beginnings of their names) each check is about;
#: what no other names belongs to the first.
TOPICS = {
    'devices': (),
    'images': ('images-',),
    'healer': ('healer-', 'scrub-'),
}


class Checks(upgradecheck.UpgradeCommands):
    """The checks: of the installation first, then of each store.

    :param conf: read by the time that they are made
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self._conf = conf
        self._deployment = deployment.Deployment(conf)

    @property
    def _upgrade_checks(self) -> tuple[  # type: ignore[override]
            tuple[str, Callable[..., Result]], ...]:
        return (('Python', lambda _: check_python(sys.version_info)),
                ('Glance', lambda _: check_glance()),
                ('Entry points', lambda _: check_entry_points()),
                ('Requirements', lambda _: deployment.judge(
                    requirements.findings())),
                *self._deployment.all(),
                ('Stores', lambda _: self._check_stores()),
                *self._of_stores())

    def _check_stores(self) -> Result:
        names = stores.names(self._conf)
        if not names:
            return Result(Code.WARNING,
                          'enabled_backends has no store of type '
                          f'{stores.DRIVER}: check --config-file, or add '
                          'one as the documentation shows')
        return Result(Code.SUCCESS, ', '.join(names))

    def _of_stores(self) -> Iterator[tuple[str, Callable[..., Result]]]:
        for name in stores.names(self._conf):
            yield from self._of_store(name)

    def _of_store(self, name: str,
                  ) -> Iterator[tuple[str, Callable[..., Result]]]:
        try:
            options = stores.options(self._conf, name)
            engine = loading.load(options | {'self_repair': False})
        except (exceptions.ConfigurationError, cfg.Error) as error:
            result = Result(Code.FAILURE, str(error))
            yield f'Store {name}: configuration', lambda _: result
            return
        yield (f'Store {name}: configuration',
               lambda _: Result(Code.SUCCESS, (
                   f'{options["engine"]} engine, {engine.copies} copies, '
                   f'at least {engine.min_copies}')))
        problems = engine.problems()
        for topic in TOPICS:
            judged = judge(each for each in problems
                           if _topic(each) == topic)
            yield f'Store {name}: {topic}', lambda _, result=judged: result


def _topic(problem: engine_module.Problem) -> str:
    return next((topic for topic, starts in TOPICS.items()
                 if problem.what.startswith(starts)), next(iter(TOPICS)))


def judge(problems: Iterable[engine_module.Problem]) -> Result:
    """Return the result of a check that found problems, or none."""
    found = list(problems)
    if not found:
        return Result(Code.SUCCESS)
    critical = any(problem.severity is CRITICAL for problem in found)
    return Result(
        Code.FAILURE if critical else Code.WARNING,
        ' '.join(f'({number}) {problem.what}: {problem.message}.'
                 for number, problem in enumerate(found, 1)))


def check_python(version: Sequence[Any]) -> Result:
    """Return whether we were tested with a release of Python.

    :param version: as ``sys.version_info``
    """
    here = tuple(version[:2])
    text = f'{version[0]}.{version[1]}'
    lowest, highest = PYTHON
    if here < lowest:
        return Result(Code.FAILURE, f'Python {text} is too old: 3.11 to 3.13 '
                                    'are supported')
    if here > highest:
        return Result(Code.WARNING, f'Python {text} was not tested: 3.11 to '
                                    '3.13 are supported')
    return Result(Code.SUCCESS, text)


def check_glance(version: str | None = None) -> Result:
    """Return whether we were tested with a release of Glance.

    :param version: by default that which is installed in this Python
    """
    if version is None:
        try:
            version = importlib.metadata.version('glance')
        except importlib.metadata.PackageNotFoundError:
            return Result(Code.FAILURE,
                          'Glance is not installed in this Python '
                          f'({sys.prefix}): install easystack-image into '
                          "Glance's environment")
    match = re.match('[0-9]+', version)
    major = int(match[0]) if match else 0
    supported = ' and '.join(map(str, GLANCE))
    if major < GLANCE[0]:
        return Result(Code.FAILURE, f'Glance {version} is too old: releases '
                                    f'{supported} are supported')
    if major > GLANCE[-1]:
        return Result(Code.WARNING, f'Glance {version} was not tested: '
                                    f'releases {supported} are supported')
    return Result(Code.SUCCESS, version)


def check_entry_points() -> Result:
    """Return whether Glance and its libraries find what we bring."""
    faults = []
    for group, name in ENTRY_POINTS:
        try:
            stevedore.DriverManager(group, name,
                                    warn_on_missing_entrypoint=False)
        except Exception as error:
            # Whatever it is, it would keep the host from loading it.
            faults.append(f'{group}: {name} cannot be loaded ({error})')
    if faults:
        return Result(Code.FAILURE, '; '.join(faults) + ': install '
                      "easystack-image anew into Glance's environment")
    return Result(Code.SUCCESS, ', '.join(
        f'{group}: {name}' for group, name in ENTRY_POINTS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``easystack-image-status``; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Drivers that cannot be loaded are told by the checks, if one is used.
    logging.getLogger('stevedore').setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        # Of Glance's libraries, about what nobody here can change.
        warnings.simplefilter('ignore')
    try:
        code: int = upgradecheck.main(
            cfg.CONF, 'glance', Checks(cfg.CONF), arguments,
            stores.where_glance_looks())
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who reads it has enough. Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (cfg.Error, OSError, UnicodeError) as error:
        sys.stderr.write('The configuration cannot be read: '
                         f'{_not_text(arguments) or error}\n')
        return FAILED
    except SystemExit as error:
        # Wrong use would pass for a failed check.
        return FAILED if error.code else 0


def _not_text(arguments: Sequence[str]) -> str:
    """Return which of the configuration files is not UTF-8, or ''.

    Which it is, an error of decoding does not tell.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument('--config-file', action='append')
    try:
        given, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return ''
    for path in given.config_file or stores.where_glance_looks():
        try:
            with open(path, encoding='utf-8') as file:
                file.read()
        except UnicodeError as error:
            return f'{path} is not UTF-8 ({error})'
        except OSError:
            # That is told well.
            continue
    return ''


if __name__ == '__main__':
    sys.exit(main())
