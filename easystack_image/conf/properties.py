"""Options of the filter ``easystack_properties``, in the group of that name.

They say which values the properties may have that decide where an image
boots.
"""

from typing import Any

from oslo_config import cfg

GROUP = 'easystack_properties'

_WORDS = ('Comma-separated pairs "word:value": words for {what} in addition '
          'to the built-in ones, each with the value that is stored for it. '
          'The value may be a new one. Case, blanks, "-", "_", "." and "/" '
          'do not count in words.')
_ALLOWED = ('Values that {what} may have, as they are stored. All that the '
            'catalogue knows, if none are named.')

OPTS = [
    cfg.DictOpt(
        'os_distro_words', default={},
        help=_WORDS.format(what='the OS type (os_distro)')),
    cfg.DictOpt(
        'architecture_words', default={},
        help=_WORDS.format(what='the CPU architecture')),
    cfg.DictOpt(
        'hypervisor_type_words', default={},
        help=_WORDS.format(what='the virtualization type')),
    cfg.ListOpt(
        'allowed_os_distros', default=[],
        help=_ALLOWED.format(what='os_distro')),
    cfg.ListOpt(
        'allowed_architectures', default=[],
        help=_ALLOWED.format(what='architecture')),
    cfg.ListOpt(
        'allowed_hypervisor_types', default=[],
        help=_ALLOWED.format(what='hypervisor_type')),
    cfg.BoolOpt(
        'refuse_unknown', default=True,
        help='Refuse values that the catalogue does not know (400). '
             'Otherwise they are stored as they come, and only known words '
             'are replaced.'),
    cfg.ListOpt(
        'disabled_rules', default=[],
        help='Names of the rules on combinations that are not applied: '
             'baremetal_snapshot, os_architecture, disk_format, os_type, '
             'two_names.'),
]


def register(conf: cfg.ConfigOpts) -> Any:
    """Register the options, and return what they are set to."""
    conf.register_opts(OPTS, group=GROUP)
    return conf[GROUP]
