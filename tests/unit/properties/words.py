"""Every value of the manual, in every spelling that is documented for it.

The documentation's table is the source; so what it promises is what is
tested.
"""

from __future__ import annotations

from pathlib import Path
import re

PAGE = Path(__file__).parents[3] / 'doc' / 'source' / 'properties.rst'

#: The choices of the manual, chapter 2.1, and what they become.
MANUAL = {
    'os_distro': {
        'CentOS': 'centos', 'Windows': 'windows', 'CoreOS': 'coreos',
        'Debian': 'debian', 'Fedora': 'fedora', 'FreeBSD': 'freebsd',
        'Kylin': 'kylin', 'Oracle Linux': 'oraclelinux', 'RedHat': 'rhel',
        'SUSE': 'sles', 'Ubuntu': 'ubuntu', 'Arch Linux': 'arch',
        'others': 'others'},
    'architecture': {'Arm': 'aarch64', 'x86': 'x86_64'},
    'hypervisor_type': {'QEMU': 'qemu', 'Baremetal': 'baremetal'},
}


def documented() -> list[tuple[str, str, str]]:
    """Return (property, spelling, value) of each spelling in the page."""
    found = []
    for name, table in re.findall(
            r'\.\. _words-([\w-]+):\n(.*?)(?=\n\.\. _|\Z)', PAGE.read_text(),
            re.DOTALL):
        for value, words in re.findall(
                r'^   \* - ``(\w+)``\n     - (.*?)(?=\n   \* |\n\n|\Z)',
                table, re.DOTALL | re.MULTILINE):
            for word in ' '.join(words.split()).split(', '):
                found.append((name.replace('-', '_'), word, value))
    return found
