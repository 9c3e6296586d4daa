"""Image bytes that lie in a file, before they are stored."""

from __future__ import annotations

import hashlib
import os

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import inspection
from easystack_image.content import rules as rules_module

_PIECE = 1 << 20


def check(path: str, declared: declaration.Declaration,
          rules: rules_module.Rules) -> inspection.Findings:
    """Judge the image in a file.

    :param path: of a plain file
    :raises easystack_image.exceptions.ContentError: if it is refused
    :raises OSError: if the file cannot be read
    """
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(inspection.HEAD_SIZE)
        findings = inspection.inspect(head, declared, rules, size)
        if declared.expected_hash:
            algorithm, expected = declared.expected_hash
            digest = hashlib.new(algorithm, head, usedforsecurity=False)
            while piece := file.read(_PIECE):
                digest.update(piece)
            if digest.hexdigest() != expected:
                raise exceptions.ChecksumMismatch(
                    f'The {algorithm} of the data is {digest.hexdigest()}; '
                    f'announced was {expected}')
    return findings
