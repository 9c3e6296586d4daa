"""Options of the content gate: the filter and the import plugin.

They stand in the group ``easystack_content`` of Glance's configuration.
"""

from __future__ import annotations

from typing import Any

from oslo_config import cfg
from oslo_config import types

GROUP = 'easystack_content'

#: What may be done with bytes that do not come through Glance.
INSPECT, REFUSE, PASS = 'inspect', 'refuse', 'pass'

#: Networks that are this machine, this cloud, or nobody: RFC 6890 and the
#: registries that it began, and prefixes that carry IPv4 addresses in IPv6.
DENIED_NETWORKS = [
    '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8',
    '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24',
    '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24',
    '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4',
    '::/96', '64:ff9b::/96', '64:ff9b:1::/48', '100::/64', '2001::/23',
    '2001:db8::/32', '2002::/16', '3fff::/20', '5f00::/16', 'fc00::/7',
    'fe80::/10', 'fec0::/10', 'ff00::/8']

OPTS = [
    cfg.ListOpt(
        'disk_formats', default=['iso', 'qcow2', 'raw'],
        help='The disk formats that images may have, as Glance names them. '
             'The bytes must be what the image says. Formats that are not '
             'known to oslo.utils (ami, aki, ari, ploop) are let in if they '
             'look like nothing that is.'),
    cfg.ListOpt(
        'container_formats', default=['bare'],
        help='The container formats that images may have.'),
    cfg.IntOpt(
        'max_virtual_size', default=2048, min=1, max=8388608,
        help='How large the disk in an image may be, in GiB; for raw images '
             'and ISOs that is their size.'),
    cfg.BoolOpt(
        'check_min_disk', default=True,
        help='Refuse images whose disk does not fit on one of the size that '
             'their min_disk says (where it is not 0).'),
    cfg.BoolOpt(
        'bare_metal_iso_boots', default=True,
        help='Refuse ISOs for bare metal (hypervisor_type = baremetal) that '
             'have no El Torito boot record.'),
    cfg.StrOpt(
        'locations', default=INSPECT, choices=[
            (INSPECT, 'read their beginning, and judge it'),
            (REFUSE, 'refuse all'), (PASS, 'leave them to Glance')],
        help='What to do with locations that clients add to images (Add '
             'location, and PATCH of "locations"). What a web server holds '
             'may change after it was inspected.'),
    cfg.StrOpt(
        'copy_image', default=INSPECT, choices=[
            (INSPECT, 'read the beginning of the image, and judge it'),
            (PASS, 'leave them to Glance')],
        help='What to do before an image is copied to more stores '
             '(copy-image): it may be older than this filter.'),
    cfg.StrOpt(
        'import_tasks', default=REFUSE, choices=[
            (INSPECT, 'read the beginning of what the URL holds, and judge '
             'it'),
            (REFUSE, 'refuse all'), (PASS, 'leave them to Glance')],
        help='What to do with tasks of type "import", which bring images in '
             'by the old Tasks API. Glance fetches them once more after '
             'they were inspected, when they may have changed.'),
    cfg.StrOpt(
        'web_download', default='gate', choices=[
            ('gate', 'the filter downloads, and stages what it got'),
            ('glance', 'Glance downloads; the filter checks the address '
             'first')],
        help='Who downloads images that are imported by web-download. With '
             '"glance" there are no time limits, no progress, and addresses '
             'and redirects are checked as far as Glance does.'),
    cfg.ListOpt(
        'url_denied_networks', default=DENIED_NETWORKS,
        help='Networks in CIDR notation that nothing is downloaded from, '
             'whatever the name of the server: this machine, private '
             "networks, and addresses that are nobody's. Names, ports and "
             "schemes are restricted by Glance's own group "
             '[import_filtering_opts], which holds as well.'),
    cfg.ListOpt(
        'url_allowed_networks', default=[],
        help='Networks in CIDR notation that images may be downloaded from '
             'although url_denied_networks has them, such as that of an '
             'image server of your own.'),
    cfg.IntOpt(
        'download_max_size', default=1024, min=1, max=8388608,
        help='How much is downloaded from one URL, in GiB.'),
    cfg.IntOpt(
        'download_connect_timeout', default=10, min=1, max=600,
        help='How long it may take to connect to a server, in seconds.'),
    cfg.IntOpt(
        'download_read_timeout', default=60, min=1, max=3600,
        help='How long a server may send nothing, in seconds.'),
    cfg.IntOpt(
        'download_time_limit', default=21600, min=10, max=604800,
        help='How long a download may take in all, in seconds.'),
    cfg.IntOpt(
        'download_max_redirects', default=5, min=0, max=20,
        help='How many redirects are followed (number). Each is checked '
             'like the first URL.'),
    cfg.IntOpt(
        'downloads_at_once', default=4, min=1, max=64,
        help='How many downloads each process of Glance does at once '
             '(number); more wait.'),
    cfg.IntOpt(
        'drain_size', default=64, min=0, max=1048576,
        help='Up to which size the rest of a refused upload is still read, '
             'in MiB, so that clients that send all before they listen get '
             'the answer. Larger ones are answered at once, and the '
             'connection is closed; the reason is in the property '
             'easystack_content_error as well.'),
    cfg.IntOpt(
        'drain_time', default=10, min=0, max=600,
        help='For how long that is done, in seconds.'),
]

#: Options of Glance's that count here as well.  Glance registers some of them
#: late, and would not find them registered by others; so they are read apart.
_DEFAULT = 'DEFAULT'
_FILTERING, _IMPORT = 'import_filtering_opts', 'image_import_opts'
_FORMAT = 'image_format'
_GLANCES = {
    _DEFAULT: [cfg.BoolOpt('show_multiple_locations', default=False)],
    _FORMAT: [cfg.ListOpt('gpt_safety_checks_nonfatal', default=[])],
    _IMPORT: [cfg.ListOpt('image_import_plugins', bounds=True, default=[],
                          item_type=types.String(quotes=True))],
    _FILTERING: [
        cfg.ListOpt(f'{list_}_{what}', bounds=True, item_type=kind,
                    default=default if list_ == 'allowed' else [])
        for what, kind, default in (
            ('schemes', types.String(quotes=True), ['http', 'https']),
            ('hosts', types.HostAddress(), []),
            ('ports', types.Integer(min=1, max=65535), [80, 443]))
        for list_ in ('allowed', 'disallowed')],
}


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known; again does no harm."""
    conf.register_opts(OPTS, group=GROUP)


def nonfatal_checks(conf: cfg.ConfigOpts) -> list[str]:
    """Return the checks of partition tables that Glance lets fail."""
    listed: list[str] = _read(conf)[_FORMAT].gpt_safety_checks_nonfatal
    return listed


def show_multiple_locations(conf: cfg.ConfigOpts) -> bool:
    """Tell whether Glance lets clients see and change locations."""
    shown: bool = _read(conf)[_DEFAULT].show_multiple_locations
    return shown


def plugins(conf: cfg.ConfigOpts) -> list[str]:
    """Return the import plugins that Glance runs."""
    listed: list[str] = _read(conf)[_IMPORT].image_import_plugins
    return listed


def import_filtering(conf: cfg.ConfigOpts) -> dict[str, frozenset[Any]]:
    """Return which URLs Glance's own options allow for web-download.

    As Glance has it, a list of what is allowed makes the one of what is not
    void.
    """
    group = _read(conf)[_FILTERING]
    found = {}
    for what in ('schemes', 'hosts', 'ports'):
        allowed = group[f'allowed_{what}']
        denied = group[f'disallowed_{what}']
        found[f'allowed_{what}'] = frozenset(allowed)
        found[f'denied_{what}'] = frozenset(() if allowed else denied)
    return found


def _read(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    """Return Glance's options, from the files that a configuration is of."""
    own = cfg.ConfigOpts()
    for group, options in _GLANCES.items():
        own.register_opts(options, group=group)
    own([], default_config_files=conf.config_file or [],
        default_config_dirs=conf.config_dir or [])
    return own
