"""Running programs of the slot, with Glance's configuration."""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import re
import subprocess
import sys

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import leash
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
    done = _run(context, [str(path)], arguments)
    sys.stderr.write(done.stdout + done.stderr)
    return done


def run_module(context: base.Context, name: str, *arguments: str,
               ) -> subprocess.CompletedProcess[str]:
    """Run a module with the Python of this process, as :func:`run` does.

    What it prints on stdout is for the caller alone.

    :param name: of the module
    :raises easystack_image.exceptions.HookFailed: see :func:`run`
    """
    done = _run(context, [sys.executable, '-I', '-m', name], arguments)
    sys.stderr.write(done.stderr)
    return done


def _run(context: base.Context, command: Sequence[str],
         arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    user = owner.of(context)
    try:
        return subprocess.run(  # noqa: S603  # of the release, and no shell
            [*command, *_configuration(context), *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors='replace',
            # As long as it works, the hook does.
            pass_fds=leash.descriptors(os.environ.get(leash.LOCKS, '')),
            **(user.options() if user else {}))
    except OSError as error:
        whom = f' by user {user.name or user.user}' if user else ''
        raise exceptions.HookFailed(
            f'{command[0]} cannot be run{whom}: {error.strerror}') from None


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
