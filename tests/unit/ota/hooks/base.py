"""Slots whose hooks tests write, and a caller of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
import site
import textwrap
from typing import Any
import venv

from easystack_image.ota import settings
from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.hooks import calls
from easystack_image.ota.hooks import testing
from tests.unit.ota import base

POINT = 'before-soak'
_MODULE = 'hooks_of_a_deployer'
_HEAD = """\
from easystack_image import exceptions
from easystack_image.ota.hooks import base
"""


class HookCase(base.Case):
    """A test with a directory for executables, and a slot."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.root / 'hooks.d'
        self.outcomes: list[hooks_base.Outcome] = []

    def settings(self, **others: Any) -> settings.Settings:
        return settings.Settings(**{
            'state_directory': str(self.root / 'state'),
            'hooks_directory': str(self.directory), **others})

    def caller(self, **others: Any) -> calls.HookCaller:
        return calls.HookCaller(self.settings(**others),
                                self.outcomes.append)

    def context(self, point: str = POINT, **others: Any,
                ) -> hooks_base.Context:
        return testing.context(point, **{
            'state_directory': str(self.root / 'state'),
            'slots_directory': str(self.root / 'opt'), **others})

    def run_hooks(self, point: str = POINT, timeout: float = 60.0,
                  **others: Any) -> list[hooks_base.Outcome]:
        return self.caller(hook_timeout=timeout).run(
            hooks_base.Point(point), self.context(point, **others))

    def executable(self, text: str, name: str = '10-mine',
                   point: str = POINT) -> Path:
        """Write a script of the shell."""
        path = self.directory / point / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\n{textwrap.dedent(text)}\n')
        path.chmod(0o755)
        return path


def make_slot(path: Path, classes: str, points: Mapping[str, str]) -> str:
    """Make a slot, with classes of a deployer's beside all of ours.

    :param classes: the code of their module
    :param points: the names of the classes, by those of entry points
    """
    venv.create(path)
    packages, = path.glob('lib/python3*/site-packages')
    # All that this Python has, this package among it.
    (packages / 'others.pth').write_text('import site; ' + '; '.join(
        f'site.addsitedir({each!r})'
        for each in site.getsitepackages()) + '\n')
    (packages / f'{_MODULE}.py').write_text(_HEAD + textwrap.dedent(classes))
    _announce(packages / f'{_MODULE}-1.0.dist-info', points)
    return str(path)


def _announce(directory: Path, points: Mapping[str, str]) -> None:
    directory.mkdir()
    (directory / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {_MODULE}\nVersion: 1.0\n')
    (directory / 'entry_points.txt').write_text(
        '[easystack_image.ota_hooks]\n' + ''.join(
            f'{name} = {_MODULE}:{kind}\n'
            for name, kind in points.items()))
