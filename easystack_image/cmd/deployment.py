"""What the upgrade check says of a deployment, besides its stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import contextlib
import importlib
import json
import os
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from easystack_image import exceptions
from easystack_image.conf import properties as options
from easystack_image.ota import checks
from easystack_image.ota import settings
from easystack_image.ota.checks import apart
from easystack_image.ota.checks import database
from easystack_image.ota.checks import pipelines
from easystack_image.ota.checks import policy
from easystack_image.ota.checks import protection
from easystack_image.ota.serving import deployer
from easystack_image.properties import catalog

Result = upgradecheck.Result
Code = upgradecheck.Code

#: Read by Glance beside its own file, where it finds that by itself.
_BESIDE = 'glance-image-import.conf'
_SCHEMA = 'schema-image.json'


def judge(findings: Iterable[checks.Finding], well: str | None = None,
          ) -> Result:
    """Return the result of a check that found something, or nothing.

    :param well: what to say if it found nothing
    """
    found = list(findings)
    if not found:
        return Result(Code.SUCCESS, well)
    serious = any(finding.serious for finding in found)
    text = ' '.join(f'({number}) {finding.text}.'
                    for number, finding in enumerate(found, 1))
    return Result(Code.FAILURE if serious else Code.WARNING, text)


class Deployment:
    """The checks.

    :param conf: Glance's global configuration, read by the time that they
        are made
    :param updater: where the configuration of the updater is, if there is one
    """

    def __init__(self, conf: cfg.ConfigOpts,
                 updater: str = str(settings.FILE)) -> None:
        # Glance has to register its options before we do: of ours that have
        # the name of one of its, it would complain.
        with contextlib.suppress(ImportError):
            importlib.import_module('glance.common.wsgi_app')
        self._conf = conf
        self._updater = updater

    def all(self) -> tuple[tuple[str, Callable[..., Result]], ...]:
        """Return them, with their names."""
        return (('Options', lambda _: self.options()),
                ('Pipeline', lambda _: self.pipeline()),
                ('Protection', lambda _: judge(self._asked(
                    protection.findings))),
                ('Policies', lambda _: judge(self._asked(policy.findings))),
                ('Schema', lambda _: judge(self.schema())),
                ('Database', lambda _: judge(self._asked(
                    lambda conf: database.findings(*_files(conf))))),
                ('uWSGI', lambda _: self.uwsgi()))

    def _asked(self, question: Callable[
            [cfg.ConfigOpts], list[checks.Finding]]) -> list[checks.Finding]:
        """Ask, where Glance is: what is needed of it, it has."""
        try:
            return question(self._conf)
        except (ImportError, cfg.Error) as error:
            # glance-status ends with a traceback here (33.0.0): an option
            # that nobody registered.
            return [checks.Finding(True, f'it cannot be found out: {error}')]

    def options(self) -> Result:
        """Judge the configuration files."""
        files, directories = _files(self._conf)
        beside = dict.fromkeys(os.path.join(os.path.dirname(path), _BESIDE)
                               for path in files)
        return judge(apart.findings(
            'options', list(dict.fromkeys([*filter(os.path.exists, beside),
                                           *files])), directories))

    def pipeline(self) -> Result:
        """Judge the paste file, and tell which of our filters it has."""
        found = self._asked(pipelines.findings)
        if found:
            return judge(found)
        return Result(Code.SUCCESS, ', '.join(
            protection.filters(self._conf)) or None)

    def schema(self) -> Iterator[checks.Finding]:
        """Yield what schema-image.json has Glance refuse, or allow."""
        path = self._conf.find_file(_SCHEMA)
        if not path:
            return
        try:
            with open(path, encoding='utf-8') as file:
                text = json.load(file)
            properties = text.get('properties', text)
            allowed = {name: properties[name].get('enum')
                       for name in catalog.NAMES if name in properties}
            choices = catalog.configured(options.register(self._conf))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            yield checks.Finding(True, f'{path} cannot be read: {error}')
            return
        except exceptions.ConfigurationError as error:
            yield checks.Finding(True, str(error))
            return
        for name, values in allowed.items():
            if values:
                yield from _compare(path, name, values, {
                    choice.value for choice in choices.choices(name)})

    def uwsgi(self) -> Result:
        """Judge options of uWSGI that break upgrades over the air."""
        if not os.path.exists(self._updater):
            return Result(Code.SUCCESS)
        if not os.access(self._updater, os.R_OK):
            # It may hold the secret URL of a chat room.
            return Result(Code.SUCCESS, f'{self._updater} is not for this '
                                        'user to read')
        try:
            found = settings.read(Path(self._updater))
            if found.uwsgi_file:
                deployer.check(Path(found.uwsgi_file))
        except exceptions.ConfigurationError as error:
            return judge([checks.Finding(True, str(error))])
        return Result(Code.SUCCESS, found.uwsgi_file or None)


def _files(conf: cfg.ConfigOpts) -> tuple[list[str], list[str]]:
    """Return the configuration files, and directories, that were read."""
    files: Any = conf.config_file
    directories: Any = conf.config_dir
    return list(files or ()), list(directories or ())


def _compare(path: str, name: str, values: list[str], choices: set[str],
             ) -> Iterator[checks.Finding]:
    lacking = sorted(choices - set(values))
    if lacking:
        yield checks.Finding(
            False, f'{path}: {name} lacks {", ".join(lacking)}, which the '
            f'catalogue ([{options.GROUP}]) has: Glance refuses them')
