"""What ``easystack-image-manage`` is made of."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import importlib.metadata
import logging
import os
import textwrap
from typing import Any, TextIO

from cliff import app
from cliff import command
from cliff import commandmanager
from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.cmd import base
from easystack_image.cmd import copies
from easystack_image.cmd import devices
from easystack_image.cmd import fsck
from easystack_image.cmd import heal
from easystack_image.cmd import owner
from easystack_image.cmd import upkeep
from easystack_image.conf import stores

COMMANDS: dict[str, type[command.Command]] = {
    **devices.COMMANDS, **copies.COMMANDS, **upkeep.COMMANDS,
    **heal.COMMANDS, **fsck.COMMANDS}


#: Terminals of so many columns are left to break lines themselves.
_NARROW = 20


class _Wrapping(logging.Formatter):
    """Wraps messages at the width of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__('%(message)s')
        self._stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a message."""
        text = super().format(record)
        width = os.get_terminal_size(self._stream.fileno()).columns
        if record.exc_info or width <= _NARROW:
            return text
        # A bar takes two columns less, and wraps what is above it, too.
        return '\n'.join(textwrap.fill(
            line, width - 2, break_long_words=False, break_on_hyphens=False)
            for line in text.splitlines())


class ManageApp(app.App):
    """The command, and the store that it works on."""

    def __init__(self) -> None:
        """Make the command with its subcommands."""
        manager = commandmanager.CommandManager('easystack_image.manage')
        for name, each in COMMANDS.items():
            manager.add_command(name, each)
        super().__init__(
            description='Manage the devices and copies of an easystack_block '
                        'store. Exit codes: ' + '; '.join(
                            f'{code} {meaning}' for code, meaning
                            in base.EXIT_CODES.items()) + '.',
            version=importlib.metadata.version('easystack-image'),
            command_manager=manager, deferred_help=True)
        self._options: dict[str, Any] | None = None

    def build_option_parser(self, description: str | None,
                            version: str | None,
                            argparse_kwargs: Any = None,
                            ) -> argparse.ArgumentParser:
        """Add the options that all subcommands share."""
        parser: argparse.ArgumentParser = super().build_option_parser(
            description, version, argparse_kwargs)
        parser.add_argument(
            '--config-file', action='append', default=[], metavar='FILE',
            help="Glance's configuration; may be given again. Default: where "
                 'glance-api looks for it.')
        parser.add_argument(
            '--config-dir', action='append', default=[], metavar='DIRECTORY',
            help='A directory of configuration files; may be given again.')
        parser.add_argument(
            '--store', metavar='NAME',
            help='The store to work on, as in enabled_backends. Default: the '
                 'only one that uses this driver.')
        return parser

    def configure_logging(self) -> None:
        """Have messages end their lines between words, on a terminal."""
        super().configure_logging()
        if self.stderr.isatty():
            for handler in logging.getLogger().handlers:
                if type(handler) is logging.StreamHandler:
                    handler.setFormatter(_Wrapping(self.stderr))

    @property
    def store_options(self) -> dict[str, Any]:
        """The options of the store, without prefix."""
        if self._options is None:
            self._options = _read_options(
                self.options.config_file, self.options.config_dir,
                self.options.store)
            owner.check(self._options['devices'] or [],
                        self._options['io_timeout'])
        return self._options

    def interact(self) -> None:
        """Say how the command is used: it has no shell of its own."""
        self.parser.print_usage(self.stderr)
        self.stderr.write(
            f'{self.NAME}: say what to do; --help lists the commands\n')

    def run(self, argv: list[str]) -> int:
        """Run a subcommand; return its exit code."""
        code = int(super().run(argv) or 0)
        return 2 if self.interactive_mode and code else code


def _read_options(files: Sequence[str], directories: Sequence[str],
                  name: str | None) -> dict[str, Any]:
    conf = cfg.CONF
    if not files and not directories:
        files = stores.where_glance_looks()
    arguments = [f'--config-file={each}' for each in files]
    arguments += [f'--config-dir={each}' for each in directories]
    conf(arguments, project='glance', prog='glance-api',
         default_config_files=[])
    found = stores.names(conf)
    if name is None:
        if len(found) != 1:
            raise exceptions.ConfigurationError(
                f'enabled_backends has {len(found)} stores of type '
                f'{stores.DRIVER} ({", ".join(found) or "none"}): '
                'name one with --store' if found else
                f'enabled_backends has no store of type {stores.DRIVER}: '
                'check --config-file')
        name = found[0]
    elif name not in found:
        raise exceptions.ConfigurationError(
            f'enabled_backends has no store {name!r} of type '
            f'{stores.DRIVER}; it has: {", ".join(found) or "none"}')
    return stores.options(conf, name)
