"""Whom a file is believed from: root, and the user who runs this."""

from __future__ import annotations

import os
from pathlib import Path
import stat

from easystack_image import exceptions

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check(path: Path | str, status: os.stat_result, why: str,
          kind: type[exceptions.EasystackImageError]
          = exceptions.ConfigurationError) -> None:
    """Raise if another user, but for root, could change a file.

    :param path: of a file or a directory, for the message
    :param status: of it; where it is opened, of what was opened
    :param why: that matters, as half a sentence
    :param kind: what is raised
    :raises easystack_image.exceptions.EasystackImageError: if so, of that
        kind
    """
    if status.st_uid not in (0, os.geteuid()):
        raise kind(
            f'{path} belongs to user {status.st_uid}, and {why}: chown root '
            f'{path}, or run this as that user')
    if status.st_mode & _OTHERS:
        raise kind(
            f'{path} may be changed by others than its owner (mode '
            f'{status.st_mode & 0o777:o}), and {why}: chmod go-w {path}')
