"""Rules of the API for the copies of an image."""

from oslo_policy import policy

#: Copies, and how they are, may be seen.
GET = 'easystack_image:get_copies'
#: All of every copy may be read, and bad ones replaced.
VERIFY = 'easystack_image:verify_copies'

RULES = [
    policy.DocumentedRuleDefault(
        name=GET, check_str='rule:context_is_admin', scope_types=['project'],
        description='Show the copies of an image: devices, zones, states',
        operations=[{'path': '/v2/images/{image_id}/copies',
                     'method': 'GET'}]),
    policy.DocumentedRuleDefault(
        name=VERIFY, check_str='rule:context_is_admin',
        scope_types=['project'],
        description='Verify all copies of an image now, and repair them',
        operations=[{'path': '/v2/images/{image_id}/copies/verify',
                     'method': 'POST'}]),
]
