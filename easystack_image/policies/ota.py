"""Rules of what tells of releases and upgrades."""

from oslo_policy import policy

#: Releases, instances, and the last upgrade may be seen.
GET = 'easystack_image:get_ota'

RULES = [
    policy.DocumentedRuleDefault(
        name=GET, check_str='rule:context_is_admin', scope_types=['project'],
        description='Show the release of the service, its instances with '
                    'the requests that they are at, and the last upgrade',
        operations=[{'path': '/easystack/ota', 'method': 'GET'}]),
]
