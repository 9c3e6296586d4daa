"""What was downloaded here: archives that were what the signed index says.

Nothing in an archive tells whether anybody signed it, nor does where it lies:
a file can be put anywhere, and a download can break off.  So whoever
downloads one writes a receipt when it has been compared with the index, in
``memory.json``; whoever takes one from a file asks for it.  It is the SHA-256
of the declaration, which has the SHA-256 of all else.
"""

from __future__ import annotations

from pathlib import Path

from easystack_image import exceptions
from easystack_image.ota import home as homes
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers
from easystack_image.ota.release import archive
from easystack_image.ota.release import declaration as declarations


def release_of(home: homes.Home, path: Path,
               installed: declarations.Declaration | None,
               ) -> declarations.Declaration:
    """Return the release in an archive that was downloaded here.

    The file may change afterwards: whoever unpacks it compares it with what
    is returned.

    :param home: the updater's directory
    :param installed: the release that is in use here, if there is one
    :raises easystack_image.exceptions.RefusedRelease: if it was not
        downloaded, or must not be installed any more
    :raises easystack_image.exceptions.InvalidRelease: if it is malformed
    :raises OSError: if it cannot be read
    """
    release = archive.inspect(path)
    memory = memories.load(home)
    refusal = offers.refusal(release, memory, installed)
    if refusal:
        raise exceptions.RefusedRelease(
            f'release {release} must not be installed: {refusal}')
    if release.digest not in memory.receipts:
        raise exceptions.RefusedRelease(
            f'{path} is not what was downloaded here, so nobody knows '
            'whether it was signed: get it with "download" (which takes no '
            'time if it is there already). repository may be the URL of a '
            'folder on a USB stick (file://...)')
    return release
