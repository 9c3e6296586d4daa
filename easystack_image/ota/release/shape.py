"""What metadata of ours may have in it, and nothing else.

Where a draft lies, others may have written to it.  A person can judge only
what is shown, so what a draft has no use for is not shown but refused: a
target in a role that delegates only, another path or order of a delegation, a
key under an id that is not its own, a field that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuf.api.metadata import Metadata
from tuf.api.metadata import Root
from tuf.api.metadata import Snapshot
from tuf.api.metadata import Targets
from tuf.api.metadata import Timestamp

from easystack_image import exceptions
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import keys

_COMMON = {'_type', 'spec_version', 'version', 'expires'}
_FIELDS = {
    Root.type: _COMMON | {'consistent_snapshot', 'keys', 'roles'},
    Targets.type: _COMMON | {'targets', 'delegations'},
    **dict.fromkeys(indexes.CHANNELS, _COMMON | {'targets'})}
_TARGET = {'length', 'hashes'}
#: What others of the specification's versions mean is not known here.
_SPECIFICATION = '1.0.'


def check(role: str, metadata: Metadata[Any]) -> None:
    """Raise unless metadata of a role that people sign is as ours are.

    :raises easystack_image.exceptions.InvalidRelease: saying what is odd
    """
    signed = metadata.signed.to_dict()
    kind = role if role in (Root.type, Targets.type) else Targets.type
    if signed['_type'] != kind or set(signed) != _FIELDS[role] or (
            not signed['spec_version'].startswith(_SPECIFICATION)):
        raise _odd(role, 'has other fields than it should: '
                   + ', '.join(sorted(signed)))
    if role == Root.type:
        _check_root(signed)
    elif role == Targets.type:
        _check_delegations(signed)
    else:
        _check_targets(role, signed['targets'])


def _check_root(signed: Mapping[str, Any]) -> None:
    if signed['consistent_snapshot'] is not True:
        raise _odd(Root.type, 'has no consistent snapshots')
    roles = signed['roles']
    if set(roles) != {Root.type, Targets.type, Snapshot.type,
                      Timestamp.type}:
        raise _odd(Root.type, 'has other roles than it should')
    for name, held in roles.items():
        if set(held) != {'keyids', 'threshold'}:
            raise _odd(Root.type, f'says more of {name} than who signs it')
    _check_keys(Root.type, signed['keys'], roles)


def _check_delegations(signed: Mapping[str, Any]) -> None:
    role = Targets.type
    if signed['targets']:
        raise _odd(role, 'offers files itself: '
                   + ', '.join(sorted(signed['targets'])))
    delegations = signed['delegations']
    if set(delegations) != {'keys', 'roles'}:
        raise _odd(role, 'delegates in another way than it should')
    roles = {held['name']: held for held in delegations['roles']}
    # Their order means nothing: none can offer what another can.
    if set(roles) != set(indexes.CHANNELS):
        raise _odd(role, 'delegates to others than ' + ', '.join(
            indexes.CHANNELS))
    for name, held in roles.items():
        if held != {'name': name, 'terminating': True,
                    'paths': [f'{name}/*'], 'keyids': held['keyids'],
                    'threshold': held['threshold']}:
            raise _odd(role, f'gives {name} other files than those of its '
                             'own, or lets others offer them, too')
    _check_keys(role, delegations['keys'], roles)


def _check_keys(role: str, found: Mapping[str, Any],
                roles: Mapping[str, Any]) -> None:
    for keyid, key in found.items():
        keys.check(keyid, key)
    used = {keyid for held in roles.values() for keyid in held['keyids']}
    if used != set(found):
        raise _odd(role, 'has keys that no role has, or lacks some')


def _check_targets(channel: str, targets: Mapping[str, Any]) -> None:
    for path, target in targets.items():
        if set(target) != _TARGET or set(target['hashes']) != {'sha256'}:
            raise _odd(channel, f'says more of {path} than its length and '
                                'SHA-256')
    if f'{channel}/{indexes.NAME}' not in targets:
        raise _odd(channel, 'has no index')


def _odd(role: str, reason: str) -> exceptions.InvalidRelease:
    return exceptions.InvalidRelease(
        f'{role} {reason}: this command did not make it so; ask who did, and '
        'sign nothing')
