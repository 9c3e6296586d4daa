"""The options that a release knows, by their groups.

oslo.config registers options when modules are imported that use them, many
of them in the middle of a request.  What libraries announce for sample files
(``oslo.config.opts``) is all of them, but for those whose groups have names
of the deployer's choice: stores, and how to log in to Keystone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import importlib.metadata
import logging
from typing import Any

from keystoneauth1 import exceptions as auth_exceptions
from keystoneauth1 import loading as auth_loading
from oslo_config import cfg

LOG = logging.getLogger(__name__)
DEFAULT = 'DEFAULT'
_ANNOUNCED = 'oslo.config.opts'
_DRIVERS = 'glance_store.drivers'
#: See ``RESERVED_STORES`` in glance/common/wsgi_app.py.
RESERVED = {'os_glance_staging_store': 'file',
            'os_glance_tasks_store': 'file'}

#: Options by what a file may call them, by the names of their groups.
Known = dict[str, dict[str, cfg.Opt]]


def _load(group: str) -> Iterator[tuple[str, Any]]:
    """Yield what libraries bring under an entry point, with its names.

    One that reads a command line when it is imported ends with SystemExit;
    stevedore takes care neither of that nor of a failed assertion.
    """
    for each in importlib.metadata.entry_points(group=group):
        try:
            loaded = each.load()
        except (Exception, SystemExit) as error:
            _tell(each.name, error)
        else:
            yield each.name, loaded


def _tell(name: str, error: BaseException) -> None:
    # Its options will be unknown, which is told where one is used.
    LOG.info('The options of %s cannot be loaded: %r', name, error)


def announced() -> Known:
    """Return what libraries announce.  What Glance says counts first.

    Whoever needs the global configuration afterwards has this done in a
    process of its own: see :mod:`easystack_image.ota.checks.apart`.
    """
    known: Known = {}
    for name, list_opts in sorted(_load(_ANNOUNCED), key=lambda found: (
            not found[0].startswith('glance'), found[0])):
        try:
            listed = [(getattr(group, 'name', group) or DEFAULT, list(opts))
                      for group, opts in list_opts()]
        except (Exception, SystemExit) as error:
            _tell(name, error)
            continue
        for group, opts in listed:
            add(known, group, opts)
    return known


def add(known: Known, group: str, opts: Sequence[cfg.Opt]) -> None:
    """Add options to what is known, unless they are."""
    names = known.setdefault(group, {})
    for opt in opts:
        for name in (opt.dest, opt.name):
            names.setdefault(name, opt)


def drivers() -> dict[str, Sequence[cfg.Opt]]:
    """Return the options of all drivers of stores, by the names of these."""
    return {name: driver.OPTIONS or () for name, driver in _load(_DRIVERS)}


def deprecated(known: Known) -> Iterator[tuple[str, str, str, cfg.Opt]]:
    """Yield old groups and names, and the groups and options of today."""
    for group, names in known.items():
        for opt in set(names.values()):
            for old in opt.deprecated_opts:
                yield old.group or group, old.name or opt.dest, group, opt


def of_keystone(sections: Mapping[str, Mapping[str, Sequence[str]]],
                ) -> Iterator[tuple[str, Sequence[cfg.Opt]]]:
    """Yield the groups that say how to log in, and their options.

    :param sections: of the configuration files
    """
    for group, values in sections.items():
        kind = [*values.get('auth_type', ()),
                *values.get('auth_plugin', ())][:1]
        if kind:
            yield group, auth_loading.get_auth_common_conf_options()
            try:
                yield group, auth_loading.get_auth_plugin_conf_options(
                    kind[0])
            except auth_exceptions.NoMatchingPlugin as error:
                # As an option of an unknown kind it is told, too.
                LOG.info('[%s] auth_type: %s', group, error)
