"""Those of Glance's own rules that ours refer to."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_policy import policy

#: Who is an administrator, who may upload, who may say where data are, and
#: what they refer to.
_NAMES = ('default', 'context_is_admin', 'service_api', 'upload_image',
          'set_image_location', 'add_image_location')

#: For commands that run where there is no Glance: as Glance 32 and 33 have
#: them (glance/policies/base.py and image.py).
_STANDARD = (
    policy.RuleDefault('default', ''),
    policy.RuleDefault('context_is_admin', 'role:admin'),
    policy.RuleDefault(
        'upload_image', 'rule:context_is_admin or '
                        '(role:member and project_id:%(project_id)s)'),
    policy.RuleDefault('service_api', 'role:service or role:admin'),
    policy.RuleDefault(
        'set_image_location', 'rule:context_is_admin or '
                              '(role:member and project_id:%(project_id)s)'),
    policy.RuleDefault(
        'add_image_location', 'rule:service_api or (role:member and '
                              'project_id:%(project_id)s and '
                              'project_id:%(owner)s)'),
)


def needed() -> Sequence[policy.RuleDefault]:
    """Return the rules as the Glance of this environment has them.

    That includes what ``[oslo_policy] enforce_new_defaults = false`` makes of
    those with a deprecated form.
    """
    try:
        from glance import policies
    except ImportError:
        return _STANDARD
    return [rule for rule in policies.list_rules() if rule.name in _NAMES]
