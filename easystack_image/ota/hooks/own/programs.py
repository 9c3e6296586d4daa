"""Running programs of the slot, with Glance's configuration."""

from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks.own import owner

#: What oslo.log writes before each line of a traceback.
_LOGGED = re.compile(r'[-0-9]+ [0-9:.]+ [0-9]+ [A-Z]+ \S+ ?')
#: The last line of a traceback.
_ERROR = re.compile(r'[\w.]*(Error|Exception|Exit)\b: ')


def slot(context: base.Context) -> str:
    """Return the slot whose Python runs this hook."""
    return context.slot or context.origin_slot or sys.prefix


def run(context: base.Context, name: str, *arguments: str,
        directory: str = '') -> subprocess.CompletedProcess[str]:
    """Run a program of a slot to its end; the operator sees what it says.

    It is told Glance's configuration, and runs as the user of the service
    (:mod:`easystack_image.ota.hooks.own.owner`).  How long it may take is
    the hook's time.

    :param directory: another slot than that of the hook
    :raises easystack_image.exceptions.HookFailed: if it is not there, or
        Glance's configuration cannot be read
    """
    path = Path(directory or slot(context)) / 'bin' / name
    user = owner.of(context)
    try:
        done = subprocess.run(  # noqa: S603  # of the release, and no shell
            [path, *_configuration(context), *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors='replace', **(user.options() if user else {}))
    except OSError as error:
        whom = f' by user {user.name or user.user}' if user else ''
        raise exceptions.HookFailed(
            f'{path} cannot be run{whom}: {error.strerror}') from None
    sys.stderr.write(done.stdout + done.stderr)
    return done


def _configuration(context: base.Context) -> list[str]:
    """Return how programs are told Glance's configuration."""
    return [*(f'--config-file={path}' for path in context.config_files),
            *(f'--config-dir={path}' for path in context.config_dirs)]


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line that says how a program ended.

    That is the last of stdout, or if it failed, an error of Python's, with
    what oslo.log writes before each line taken away, or else the last line.
    """
    said = [line.strip() for line in done.stdout.splitlines()]
    if done.returncode:
        said += [_LOGGED.sub('', line).strip()
                 for line in done.stderr.splitlines()]
        said = [line for line in said if _ERROR.match(line)][-1:] or said
    lines = [line for line in said if line]
    return lines[-1] if lines else f'exit code {done.returncode}'
