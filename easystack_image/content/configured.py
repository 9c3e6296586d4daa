"""What Glance's configuration says of images and URLs."""

from __future__ import annotations

from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.conf import content as content_conf
from easystack_image.content import addresses
from easystack_image.content import declaration
from easystack_image.content import fetch
from easystack_image.content import rules
from easystack_image.content import urls


def image_rules(conf: cfg.ConfigOpts) -> rules.Rules:
    """Return which images are let in.

    :param conf: Glance's configuration, read already
    """
    content_conf.register(conf)
    group = conf[content_conf.GROUP]
    return rules.Rules(
        disk_formats=frozenset(group.disk_formats),
        container_formats=frozenset(group.container_formats),
        max_virtual_size=group.max_virtual_size * declaration.GIB,
        check_min_disk=group.check_min_disk,
        bare_metal_iso_boots=group.bare_metal_iso_boots,
        nonfatal_checks=frozenset(content_conf.nonfatal_checks(conf)))


def url_rules(conf: cfg.ConfigOpts) -> urls.UrlRules:
    """Return which URLs may be fetched.

    :raises easystack_image.exceptions.ConfigurationError: if a network is
        not in CIDR notation
    """
    content_conf.register(conf)
    group = conf[content_conf.GROUP]
    filtering = content_conf.import_filtering(conf)
    try:
        networks = addresses.Networks.of(group.url_denied_networks,
                                         group.url_allowed_networks)
    except ValueError as error:
        raise exceptions.ConfigurationError(
            f'[{content_conf.GROUP}] url_denied_networks and '
            f'url_allowed_networks need networks such as 192.0.2.0/24: '
            f'{error}') from error
    return urls.UrlRules(networks=networks, **filtering)


def limits(conf: cfg.ConfigOpts) -> fetch.Limits:
    """Return how long a download may take, and how large it may be."""
    content_conf.register(conf)
    group = conf[content_conf.GROUP]
    return fetch.Limits(
        size=group.download_max_size * declaration.GIB,
        connect_timeout=group.download_connect_timeout,
        read_timeout=group.download_read_timeout,
        time_limit=group.download_time_limit,
        redirects=group.download_max_redirects)
