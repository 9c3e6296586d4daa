"""Doing what a page of the operator's guide says, and comparing.

On a page,

* ``.. code-block:: console`` has commands after ``$``, run by a shell in the
  order of the page, and below each what it prints;
* commands after ``#`` are root's and are not run; they may be those of
  :data:`ROOTS` only;
* ``.. code-block:: ini`` is written into glance-api.conf;
* a comment ``.. test: COMMAND`` is run as well, and not seen by readers: what
  happens to an operator (a disk dies) has to be done by somebody here.

All of it happens below a temporary directory that stands for ``/``.  What is
different each time (ids, sizes, times, widths of columns) is left out of
account.
"""

from __future__ import annotations

from collections.abc import Iterator
import configparser
import dataclasses
import os
from pathlib import Path
import re
import subprocess
import sys
import sysconfig

REPOSITORY = Path(__file__).parents[3]
SOURCE = REPOSITORY / 'doc' / 'source'
#: What root is told to do.
ROOTS = ('apt-get', 'chown', 'install', 'mkfs.xfs', 'mount', 'pip',
         'systemctl', 'umount', 'blkid', 'mkdir', 'journalctl')
#: Directories of the guide that are below the temporary one.
_MOVED = re.compile(r'/(srv/images|etc/glance|mnt)\b')
_END = 'end-of-output'
_UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_VARIES = (
    (_UUID, 'UUID'),
    (r'\b[0-9a-f]{8}\b', 'ZONE'),
    (r'\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\dZ)?', 'TIME'),
    (r'\b\d+(\.\d)?[BKMGTP]\b', 'SIZE'),
    (r'\b\d+%', 'PERCENT'),
    (r'\b\d{7,}\b', 'NUMBER'),
    (r'"use": [\d.]+', '"use": NUMBER'),
    (r'[\d.]+ MiB/s, time left (unknown|[\d:]+)', 'RATE'),
    (r'block \d+', 'BLOCK'),
    (r' +', ' '),
    (r'-{2,}', '--'),
)


@dataclasses.dataclass(frozen=True)
class Step:
    """Something that a page says."""

    line: int
    #: ``run``, ``hidden``, ``root`` or ``ini``.
    kind: str
    text: str
    output: str = ''


def steps(text: str) -> Iterator[Step]:
    """Yield the steps of a page, in order."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if line.startswith('.. test: '):
            yield Step(number, 'hidden', line.removeprefix('.. test: '))
        match = re.fullmatch(r'( *)\.\. code-block:: (console|ini)', line)
        if match:
            begin, body = number, []
            while number < len(lines) and (
                    not lines[number] or
                    lines[number].startswith(match[1] + '   ')):
                body.append(lines[number][len(match[1]) + 3:])
                number += 1
            if match[2] == 'ini':
                yield Step(begin, 'ini', '\n'.join(body))
            else:
                yield from _console(body, begin)


def _console(body: list[str], begin: int) -> Iterator[Step]:
    text = '\n'.join(body).strip('\n').replace('\\\n', '')
    for part in re.split(r'^(?=[$#] )', text, flags=re.MULTILINE):
        if not part:
            continue
        command, _, output = part.partition('\n')
        if command[0] not in '$#':
            raise ValueError(f'line {begin}: {command!r} is not a command')
        yield Step(begin, 'run' if command[0] == '$' else 'root',
                   re.sub(r' +', ' ', command[2:]), output)


def plain(output: str) -> list[str]:
    """Return lines without what varies; rows of a table are sorted."""
    for pattern, name in _VARIES:
        output = re.sub(pattern, name, output)
    lines: list[str] = []
    rows: list[str] = []
    for line in output.splitlines():
        if line.startswith('|'):
            rows.append(line.strip())
        else:
            lines += sorted(rows)
            rows = []
            if line.strip():
                lines.append(line.strip())
    return lines + sorted(rows)


class Machine:
    """A shell on a machine that a page is about.

    :param root: a directory that stands for ``/``
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._conf = root / 'etc' / 'glance' / 'glance-api.conf'
        self._conf.parent.mkdir(parents=True)
        (root / 'srv' / 'images').mkdir(parents=True)
        (root / 'mnt').mkdir()
        path = f'{sysconfig.get_path("scripts")}:{os.environ["PATH"]}'
        self._shell = subprocess.Popen(
            ['bash', '--norc', '--noprofile'], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=root, env={
                'PATH': path, 'HOME': str(root), 'LANG': 'C.UTF-8',
                'PYTHONPATH': str(REPOSITORY), 'GLANCE_CONF':
                str(self._conf), 'OS_GLANCE_CONFIG_DIR':
                str(self._conf.parent)})
        self.run(f'act() {{ {sys.executable} -m tests.unit.doc.actions '
                 '"$@"; }')

    def close(self) -> None:
        """End the shell."""
        self._shell.kill()
        self._shell.communicate()

    def run(self, command: str) -> str:
        """Run a command; return what it prints, on stdout and stderr."""
        if self._shell.stdin is None or self._shell.stdout is None:
            raise ValueError('the shell has no pipes')
        # "$?" stays what it was, for the command that comes next.
        self._shell.stdin.write(
            f'{self._here(command)}\n'
            f'code=$?; echo; echo {_END}; (exit $code)\n')
        self._shell.stdin.flush()
        lines = []
        for line in self._shell.stdout:
            if line == f'{_END}\n':
                break
            lines.append(line)
        else:
            raise ValueError(f'the shell ended in {command!r}')
        return ''.join(lines).replace(str(self._root), '')

    def configure(self, text: str) -> None:
        """Write settings into the configuration file."""
        conf = configparser.ConfigParser(interpolation=None)
        conf.read(self._conf)
        conf.read_string(self._here(text))
        for section in conf.sections():
            if any(name.startswith('easystack_block_')
                   for name in conf[section]):
                # The directories of a test are on one disk.
                conf[section]['easystack_block_allow_shared_disk'] = 'true'
        with self._conf.open('w') as file:
            conf.write(file)

    def _here(self, text: str) -> str:
        return _MOVED.sub(rf'{self._root}/\1', text)
