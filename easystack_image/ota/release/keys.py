"""Keys that releases are signed with: Ed25519, one key per file.

A private key is PKCS#8 in PEM, in a file that nobody but its owner may read;
its public half lies beside it, in JSON as TUF has it, with ``.pub`` at the
end of the name.
"""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
import os
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any

from securesystemslib import formats
from securesystemslib.signer import Key

from easystack_image import exceptions

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

PUBLIC = '.pub'


def create(path: Path) -> Key:
    """Make a key; return its public half.

    :param path: of the private half, which must not exist yet
    :raises easystack_image.exceptions.NotSigned: if the package cryptography
        is not there
    :raises OSError: if a file exists already, or cannot be written
    """
    from securesystemslib import exceptions as errors
    from securesystemslib.signer import CryptoSigner

    try:
        signer = CryptoSigner.generate_ed25519()
    except errors.UnsupportedLibraryError:
        raise _lacking() from None
    public = {'keyid': signer.public_key.keyid,
              **signer.public_key.to_dict()}
    _write(path, signer.private_bytes, 0o600)
    _write(_public(path), json.dumps(public, indent=1).encode() + b'\n',
           0o644)
    return signer.public_key


def _lacking() -> exceptions.NotSigned:
    return exceptions.NotSigned('keys need the package cryptography: install '
                                '"easystack-image[ota-release]"')


def _public(path: Path) -> Path:
    return path.with_name(path.name + PUBLIC)


def _write(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                 mode)
    with os.fdopen(fd, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def load(path: Path) -> CryptoSigner:
    """Return what signs with a private key.

    :raises easystack_image.exceptions.NotSigned: if it is none, or others
        can read it, or the package cryptography is not there
    :raises OSError: if it cannot be read
    """
    from securesystemslib import exceptions as errors
    from securesystemslib.signer import CryptoSigner

    with path.open('rb') as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            raise exceptions.NotSigned(
                f'{path}: others may read this key (mode {mode & 0o777:o}). '
                'Whoever can has to be taken for somebody who did: replace '
                'the key, or run "chmod 600" if you are sure')
    try:
        # What it says of an unusable file may have parts of it.
        signer = CryptoSigner.from_priv_key_uri(
            f'file2:{path.resolve()}', load_public(_public(path)))
        if isinstance(signer, CryptoSigner):
            return signer
    except errors.UnsupportedLibraryError:
        raise _lacking() from None
    except (ValueError, TypeError):
        pass
    raise exceptions.NotSigned(f'{path} is no private key in PEM') from None


def load_public(path: Path) -> Key:
    """Return a public key.

    :raises easystack_image.exceptions.NotSigned: if it is none
    :raises OSError: if it cannot be read
    """
    try:
        record = json.loads(path.read_bytes())
        keyid = record.pop('keyid')
        check(keyid, record)
        return Key.from_dict(keyid, record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise exceptions.NotSigned(
            f'{path} is no public key: it should be the file '
            f'{PUBLIC} that was made with the key ({error!r})') from None


def check(keyid: str, record: Mapping[str, Any]) -> None:
    """Raise unless a public key is an Ed25519 key under its own id.

    The id is the SHA-256 of the canonical JSON of the key.  Under two ids,
    one key would count for two; under an old id, a new key would pass for the
    old one.

    :param record: the key, as it stands in metadata
    :raises easystack_image.exceptions.NotSigned: if it is not
    """
    value = record.get('keyval')
    if record != {'keytype': 'ed25519', 'scheme': 'ed25519',
                  'keyval': value} or not (
            isinstance(value, dict) and set(value) == {'public'}
            # Capital letters would be another id of the same key.
            and re.fullmatch('[0-9a-f]{64}', str(value['public']))):
        raise exceptions.NotSigned(
            f'what is called key {str(keyid)[:80]} is no Ed25519 key')
    own = hashlib.sha256(str(
        formats.encode_canonical(dict(record))).encode())
    if keyid != own.hexdigest():
        raise exceptions.NotSigned(
            f'what is called key {str(keyid)[:80]} is key {own.hexdigest()}: '
            'somebody has tampered with it')
