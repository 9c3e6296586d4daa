"""Glance's configuration, as far as our hooks have to know it."""

from __future__ import annotations

from collections.abc import Iterator
import os
from typing import Any

from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.conf import stores
from easystack_image.ota.hooks import base

_LOCAL = 'local'
#: The file of the paste pipeline, where no other is named.
_PASTE = 'glance-api-paste.ini'
#: Where Glance keeps what is uploaded until it is imported.
_STAGING, _DIRECTORY = 'os_glance_staging_store', 'filesystem_store_datadir'


class Configuration:
    """Glance's configuration.

    :param context: names the files
    :raises easystack_image.exceptions.HookFailed: if they cannot be read
    """

    def __init__(self, context: base.Context) -> None:
        conf = cfg.ConfigOpts()
        try:
            conf([], project='glance', prog='glance-api',
                 default_config_files=list(context.config_files),
                 default_config_dirs=list(context.config_dirs))
            # Glance has it with more options, which no hook needs.
            conf.register_opt(cfg.StrOpt(_DIRECTORY), group=_STAGING)
            self.staging: str | None = conf[_STAGING][_DIRECTORY]
            #: Who owns one of these says what code runs: the files and where
            #: they are.
            self.deciding = list(_deciding(conf, context))
            #: The stores whose copies we look after, and their options.
            self.local = list(_local(conf))
        except (cfg.Error, OSError, UnicodeError) as error:
            raise exceptions.HookFailed(
                f'the configuration cannot be read: {error}') from None


def _deciding(conf: cfg.ConfigOpts, context: base.Context) -> Iterator[str]:
    conf.register_opt(cfg.StrOpt('config_file', default=_PASTE),
                      group='paste_deploy')
    for path in (*context.config_files, *context.config_dirs,
                 conf.find_file(conf.paste_deploy.config_file)):
        if path:
            yield path
            yield os.path.dirname(os.path.abspath(path))


def _local(conf: cfg.ConfigOpts) -> list[tuple[str, dict[str, Any]]]:
    # Ceph looks after its own: "upgrade check" asks it how it is.
    found = [(name, stores.options(conf, name)) for name in stores.names(conf)]
    return [each for each in found if each[1]['engine'] == _LOCAL]
