"""The names inside a wheel: none may lead out of where it is installed.

A wheel is a zip file (see "Binary distribution format" in the packaging
specifications).  What installs it is a program of others, which is not to be
relied upon for this.
"""

from __future__ import annotations

from typing import IO
import zipfile

from easystack_image import exceptions

_MALFORMED = (zipfile.BadZipFile, ValueError, ArithmeticError, LookupError,
              NotImplementedError, EOFError)


def check(name: str, file: IO[bytes]) -> None:
    """Raise unless all names in a wheel stay inside of it.

    :param name: of the wheel, for the message
    :raises easystack_image.exceptions.InvalidRelease: naming the first that
        does not
    """
    try:
        with zipfile.ZipFile(file) as wheel:
            # As the archive has it: "filename" is cut at a null byte.
            found = [each.orig_filename for each in wheel.infolist()]
    except _MALFORMED as error:
        raise exceptions.InvalidRelease(
            f'{name} is no wheel ({error})') from None
    for each in found:
        parts = each.removesuffix('/').split('/')
        if '' in parts or '.' in parts or '..' in parts or (
                set('\\\0:') & set(each)):
            raise exceptions.InvalidRelease(
                f'{name} has a file {each[:80]!r} in it, a name that leads '
                'elsewhere')
