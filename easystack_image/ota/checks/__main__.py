"""``python -I -m easystack_image.ota.checks WHAT``, with a slot's Python.

What the deployer's files name is loaded in a process of its own, which can
be that of another user: the updater may be root, and these files somebody
else's.  Prints what it finds as JSON: ``[{"serious": …, "text": …}]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
import json
import os
import sys

from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.ota import checks
from easystack_image.ota.checks import pipelines
from easystack_image.ota.checks import policy


def main(argv: Sequence[str] | None = None) -> int:
    """Ask; return the exit code."""
    given = _parser().parse_args(argv)
    # Nothing but the answer goes to stdout, whatever a filter prints.
    with os.fdopen(os.dup(1), 'w') as answers:
        os.dup2(2, 1)
        try:
            found = _ASKED[given.what](given.config_file, given.config_dir)
        except exceptions.ConfigurationError as error:
            found = [checks.Finding(True, str(error))]
        answers.write(json.dumps(list(map(dataclasses.asdict, found))))
    return 0


def _options(files: Sequence[str], directories: Sequence[str],
             ) -> list[checks.Finding]:
    # Nobody else asks for Keystone's libraries.
    from easystack_image.ota.checks import configuration

    return configuration.findings(files, directories)


def _pipeline(files: Sequence[str], directories: Sequence[str],
              ) -> list[checks.Finding]:
    return pipelines.findings(_read(files, directories))


def _policy(files: Sequence[str], directories: Sequence[str],
            ) -> list[checks.Finding]:
    return policy.findings(_read(files, directories))


_ASKED = {'options': _options, 'pipeline': _pipeline, 'policy': _policy}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ('--config-file', '--config-dir'):
        parser.add_argument(name, action='append', default=[])
    parser.add_argument('what', choices=sorted(_ASKED))
    return parser


def _read(files: Sequence[str], directories: Sequence[str],
          ) -> cfg.ConfigOpts:
    """Read Glance's configuration, in this process, as Glance does.

    :raises ConfigurationError: if that cannot be done
    """
    try:
        from glance.common import config as glance_config
    except ImportError as error:
        raise exceptions.ConfigurationError(
            f'Glance cannot be imported: {error}; the release is broken, or '
            'its Python is not the one that it was built for') from None
    glance_config.set_config_defaults()
    try:
        cfg.CONF([], project='glance', prog='glance-api',
                 default_config_files=list(files),
                 default_config_dirs=list(directories))
    except (cfg.Error, OSError, UnicodeError) as error:
        raise exceptions.ConfigurationError(
            f'the configuration cannot be read: {error}') from None
    return cfg.CONF


if __name__ == '__main__':
    sys.exit(main())
