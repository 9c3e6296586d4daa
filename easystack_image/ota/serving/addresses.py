"""Where an instance takes requests: the address of the shared socket.

Who holds it, and what was configured when it was bound, may be known to
nobody any more, and workers that hang tell nothing; so the kernel is asked
which sockets the master has inherited (proc(5)).
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
import re
import struct

_PROC = Path('/proc')
_SOCKET = re.compile(r'socket:\[([0-9]+)\]')
#: The state of a socket that listens (TCP_LISTEN).
_LISTENS = '0A'
#: Where the columns of /proc/net/tcp are.
_LOCAL, _STATE, _INODE = 1, 3, 9


def address(pid: int) -> tuple[str, int] | None:
    """Return where to connect to what a process listens on.

    :returns: an address of this machine and a port: the loopback's if it
        listens on all; None if it does not listen on exactly one TCP socket
    :raises OSError: if that may not be known
    """
    process = _PROC / str(pid)
    inodes = set()
    for descriptor in os.listdir(process / 'fd'):
        try:
            found = _SOCKET.fullmatch(os.readlink(process / 'fd' / descriptor))
        except FileNotFoundError:
            continue
        if found:
            inodes.add(found[1])
    addresses = [_parse(columns[_LOCAL])
                 for name in ('tcp', 'tcp6')
                 for columns in _rows(process / 'net' / name)
                 if columns[_STATE] == _LISTENS and columns[_INODE] in inodes]
    return addresses[0] if len(addresses) == 1 else None


def _rows(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()[1:]]
    except FileNotFoundError:
        # A kernel without IPv6.
        return []


def _parse(text: str) -> tuple[str, int]:
    """Return an address as the kernel writes it: words of 32 bits, in hex."""
    words, _, port = text.partition(':')
    packed = b''.join(struct.pack('=I', int(words[place:place + 8], 16))
                      for place in range(0, len(words), 8))
    found = ipaddress.ip_address(packed)
    if found.is_unspecified:
        found = ipaddress.ip_address('::1' if found.version == 6
                                     else '127.0.0.1')
    return str(found), int(port, 16)
