"""Whether a release understands Glance's configuration files.

They are read as the service reads them, by the libraries of the release, and
each option that they set is looked up and converted: oslo.config itself says
nothing of an option that nobody knows, and complains of a value only when it
is used first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import difflib
from pathlib import Path

from oslo_config import cfg

from easystack_image.ota import checks
from easystack_image.ota.checks import options


@dataclasses.dataclass(frozen=True)
class _Setting:
    """An option that a file sets."""

    group: str
    name: str
    path: str

    def __str__(self) -> str:
        return f'[{self.group}] {self.name} in {self.path}'


def findings(config_files: Sequence[str], config_dirs: Sequence[str] = (),
             ) -> list[checks.Finding]:
    """Return what is wrong with configuration files.

    :param config_dirs: directories whose ``*.conf`` count, too
    """
    conf = cfg.ConfigOpts()
    try:
        conf([], project='glance', prog='glance-api',
             default_config_files=list(config_files),
             default_config_dirs=list(config_dirs))
        settings, sections = _read(config_files, config_dirs)
    except (cfg.Error, OSError, UnicodeError) as error:
        return [checks.Finding(True, f'the configuration cannot be read: '
                                     f'{error}')]
    known = options.announced()
    found = list(_add_stores(conf, known))
    for group, opts in options.of_keystone(sections):
        options.add(known, group, opts)
    _register(conf, known)
    old = {(group, name): (new, opt) for group, name, new, opt
           in options.deprecated(known)}
    for setting in settings:
        found += _judge(conf, setting, known, old)
    return list(dict.fromkeys(found))


def _read(config_files: Sequence[str], config_dirs: Sequence[str],
          ) -> tuple[list[_Setting], dict[str, dict[str, list[str]]]]:
    """Return what is set, and all values by groups and names."""
    paths = [*config_files, *(
        str(path) for each in config_dirs
        for path in sorted(Path(each).glob('*.conf')))]
    settings = []
    merged: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(path, sections).parse()
        for group, values in sections.items():
            merged.setdefault(group, {}).update(values)
            settings += [_Setting(group, name, path) for name in values]
    return settings, merged


def _add_stores(conf: cfg.ConfigOpts, known: options.Known,
                ) -> Iterator[checks.Finding]:
    """Add the options of the stores that are enabled."""
    conf.register_opt(cfg.DictOpt('enabled_backends', default={}))
    try:
        enabled: dict[str, str] = conf.enabled_backends or {}
    except cfg.Error:
        # It is judged with the others.
        return
    drivers = options.drivers()
    for name, kind in {**options.RESERVED, **enabled}.items():
        if kind in drivers:
            options.add(known, name, drivers[kind])
        else:
            yield checks.Finding(
                True, f'[{options.DEFAULT}] enabled_backends: this release '
                f'has no driver {kind} for store {name}; it has '
                + ', '.join(sorted(drivers)))


def _register(conf: cfg.ConfigOpts, known: options.Known) -> None:
    for group, names in known.items():
        for opt in names.values():
            try:
                conf.register_opt(
                    opt, group=None if group == options.DEFAULT else group)
            except cfg.DuplicateOptError:
                # Of two libraries with the same option, one says how to
                # read it.
                continue


def _judge(conf: cfg.ConfigOpts, setting: _Setting, known: options.Known,
           old: dict[tuple[str, str], tuple[str, cfg.Opt]],
           ) -> Iterator[checks.Finding]:
    names = known.get(setting.group, {})
    opt = names.get(setting.name)
    group = setting.group
    if opt is None and (setting.group, setting.name) in old:
        group, opt = old[setting.group, setting.name]
        yield checks.Finding(False, f'{setting} is deprecated: write '
                                    f'[{group}] {opt.dest}')
    if opt is None:
        yield _unknown(setting, known)
        return
    if opt.deprecated_for_removal:
        yield checks.Finding(False, f'{setting} is deprecated, and goes: '
                             + ' '.join((opt.deprecated_reason or '').split()))
    try:
        values = conf if group == options.DEFAULT else conf[group]
        getattr(values, opt.dest)
    except (cfg.Error, ValueError) as error:
        reason = 'its value is not valid' if opt.secret else str(error)
        yield checks.Finding(True, f'{setting}: {reason}')


def _unknown(setting: _Setting, known: options.Known) -> checks.Finding:
    """Return that nobody knows an option; the service starts all the same."""
    if setting.group not in known:
        return checks.Finding(
            False, f'no option of the group [{setting.group}] in '
            f'{setting.path} is known to this release, and it is no store '
            'of enabled_backends' + _hint(setting.group, known))
    return checks.Finding(
        False, f'{setting} is unknown to this release'
        + _hint(setting.name, known[setting.group]))


def _hint(name: str, names: dict[str, object] | options.Known | dict[
        str, cfg.Opt]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f'; did you mean {close[0]}?' if close else ''
