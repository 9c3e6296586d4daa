"""Default rules of what this package adds to Glance's API, and who checks."""

from collections.abc import Sequence

from oslo_policy import policy

from easystack_image.policies import copies
from easystack_image.policies import ota
from easystack_image.policies import properties
from easystack_image.policies import uploads


def list_rules() -> Sequence[policy.DocumentedRuleDefault]:
    """Return the rules, as ``oslo.policy.policies`` wants them."""
    return [*copies.RULES, *uploads.RULES, *properties.RULES,
            *ota.RULES]
