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

#: The owner of an image says what it is, where nothing is said yet.
_OWNER = 'role:member and project_id:%(project_id)s'
#: What is said stays, once there is data.  Before, Nova and Cinder may think
#: better of it, which ask with their user's token.
_MAKER = f"{_OWNER} and 'queued':%(status)s"
#: Members' images never get to physical machines.
_VIRTUAL = "not 'baremetal':%(new_value)s"
_WHO = {'create': _OWNER, 'update': _MAKER, 'delete': _MAKER}
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
    who = _WHO[action]
    if name == 'hypervisor_type' and action != 'delete':
        who = f'{who} and {_VIRTUAL}'
    return policy.DocumentedRuleDefault(
        name=rule_for(name, action),
        check_str=f'rule:context_is_admin or ({who})',
        scope_types=['project'],
        description=_DONE[action].format(name=name),
        operations=[{'path': path, 'method': method} for path, method
                    in _WHERE[action]])


RULES = [_rule(name, action) for name in NAMES for action in ACTIONS]
