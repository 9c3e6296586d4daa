"""Words that the language of oslo.policy lacks.

They are loaded by every enforcer (``oslo.policy.rule_checks``), so rules of
Glance's own may use them as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_policy import policy


class HasCheck(policy.Check):
    """``easystack_has:NAME``: the target has an attribute, whatever it says.

    ``'x':%(name)s`` compares a value; whether there is one at all cannot be
    asked.  A volume-backed snapshot, for instance, is known by the presence
    of ``bdm_v2``.
    """

    def __call__(self, target: Mapping[str, Any], cred: Any, enforcer: Any,
                 current_rule: str | None = None) -> bool:
        """Tell whether there is one."""
        del cred, enforcer, current_rule
        return target.get(self.match) is not None
