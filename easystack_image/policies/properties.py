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

#: Whoever makes an image says what it is, as long as it has no data: so do
#: Nova and Cinder, with their user's token.  Later it is what it is.
_MAKER = ("role:member and project_id:%(project_id)s and "
          "'queued':%(status)s")
_WHO = f'rule:context_is_admin or ({_MAKER})'
#: Members' images never get to physical machines.
_WHO_BY_VALUE = (f"rule:context_is_admin or ({_MAKER} and "
                 "not 'baremetal':%(new_value)s)")
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
    by_value = name == 'hypervisor_type' and action != 'delete'
    return policy.DocumentedRuleDefault(
        name=rule_for(name, action),
        check_str=_WHO_BY_VALUE if by_value else _WHO,
        scope_types=['project'],
        description=_DONE[action].format(name=name),
        operations=[{'path': path, 'method': method} for path, method
                    in _WHERE[action]])


RULES = [_rule(name, action) for name in NAMES for action in ACTIONS]
