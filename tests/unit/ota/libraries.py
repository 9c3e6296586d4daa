"""Libraries that are not there, with what they announce."""

from __future__ import annotations

from pathlib import Path
import textwrap

_MODULE = """\
from oslo_config import cfg
{head}
OPTS = [cfg.IntOpt('size'), cfg.StrOpt('password', secret=True)]

def list_opts():
    {listing}
"""


def make(root: Path, name: str, head: str = '', listing: str = '',
         group: str = 'oslo.config.opts') -> None:
    """Install one in a directory, that is to be in the path.

    :param name: of its module, and of its group of options
    :param head: what it does when it is imported
    :param listing: what it does when it is asked for its options
    :param group: of its entry point
    """
    (root / f'{name}.py').write_text(_MODULE.format(
        head=textwrap.dedent(head),
        listing=listing or f'return [({name!r}, OPTS)]'))
    metadata = root / f'{name}-1.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
    (metadata / 'entry_points.txt').write_text(
        f'[{group}]\n{name} = {name}:list_opts\n')
