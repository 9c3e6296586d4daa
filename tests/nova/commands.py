"""Runs many commands of openstackclient in one process.

``python -m tests.nova.commands URL FILE`` reads them from a file, a JSON list
of lists of words, and prints a JSON list of [exit code, output].  The client
takes a second to start, and there are many spellings to try.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
import sys


def main() -> None:
    """Run them."""
    from openstackclient import shell
    url, path = sys.argv[1:]
    commands = json.loads(Path(path).read_text())
    # "image create" would take what comes there for the data of the image.
    os.close(0)
    results = []
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        # It keeps the streams that it finds.
        app = shell.OpenStackShell()
        app.run(['--os-auth-type', 'none', '--os-endpoint', url,
                 'image', 'list'])
        for command in commands:
            said.seek(0)
            said.truncate()
            code = app.run_subcommand(command)
            results.append([code, said.getvalue()])
    json.dump(results, sys.stdout)


if __name__ == '__main__':
    main()
