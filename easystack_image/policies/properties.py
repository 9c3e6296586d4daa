"""Rules of the properties that decide where an image boots.

They see the value: the target is the image with ``property``, ``old_value``
and ``new_value``, all in canonical values.  The names of the properties are
repeated here, because rules lean on no other room.
"""

from __future__ import annotations

from oslo_policy import policy

#: Properties with rules of their own; newer names of Nova's for the same
#: follow the same rules.
NAMES = ('os_distro', 'os_type', 'architecture', 'hypervisor_type')
ACTIONS = ('create', 'update', 'delete')

_OWNER = 'role:member and project_id:%(project_id)s'
#: As long as there is no data, whoever makes the image may still say what it
#: will be: so do Nova and Cinder, with their user's token.
_WAITING = f"{_OWNER} and 'queued':%(status)s"
_VIRTUAL = "not 'baremetal':%(new_value)s"

_WHO = {
    'create': f'rule:context_is_admin or ({_OWNER})',
    'update': f'rule:context_is_admin or ({_WAITING})',
    'delete': f'rule:context_is_admin or ({_WAITING})',
}
_WHO_BY_VALUE = {
    'create': f'rule:context_is_admin or ({_OWNER} and {_VIRTUAL})',
    'update': f'rule:context_is_admin or ({_WAITING} and {_VIRTUAL})',
    'delete': f'rule:context_is_admin or ({_WAITING})',
}
_DONE = {
    'create': 'Give an image the property {name}',
    'update': 'Give the property {name} of an image another value',
    'delete': 'Take the property {name} away from an image',
}
_ON_CHANGE = (('/v2/images/{image_id}', 'PATCH'),)
_WHERE = {
    'create': (('/v2/images', 'POST'), *_ON_CHANGE),
    'update': _ON_CHANGE,
    'delete': _ON_CHANGE,
}


def rule_for(name: str, action: str) -> str:
    """Return the name of a rule.

    :param name: of a property that has rules
    :param action: ``create``, ``update`` or ``delete``
    """
    return f'easystack_image:{name}:{action}'


def _rule(name: str, action: str) -> policy.DocumentedRuleDefault:
    who = _WHO_BY_VALUE if name == 'hypervisor_type' else _WHO
    return policy.DocumentedRuleDefault(
        name=rule_for(name, action), check_str=who[action],
        scope_types=['project'],
        description=_DONE[action].format(name=name),
        operations=[{'path': path, 'method': method} for path, method
                    in _WHERE[action]])


RULES = [_rule(name, action) for name in NAMES for action in ACTIONS]
