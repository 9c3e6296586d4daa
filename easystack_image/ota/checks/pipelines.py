"""Whether a release has all parts of the paste pipeline, without serving.

The filters are made, as far as they can be without an application behind
them; of applications it is only found out whether they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
import configparser
import os

from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.ota import checks

#: What Glance's application is called, without its flavor.
APPLICATION = 'glance-api'
_FILE = 'glance-api-paste.ini'
#: What chooses one of several pipelines (glance.api:pipeline_factory).
_FACTORY, _BY_FLAVOR = 'paste.composite_factory', ':pipeline_factory'


def findings(conf: cfg.ConfigOpts) -> list[checks.Finding]:
    """Return what of the pipeline cannot be made.

    :param conf: Glance's global configuration, read already: filters look
        at it
    """
    try:
        walk = _walk(conf)
    except exceptions.ConfigurationError as error:
        return [checks.Finding(True, str(error))]
    return list(walk.run())


def sections(conf: cfg.ConfigOpts) -> dict[str, dict[str, str]]:
    """Return the parts that the pipeline leads through, and their options.

    By the names of their sections (``filter:cors``), in the order of
    requests; nothing is made.

    :param conf: see :func:`findings`
    :raises ConfigurationError: if the file cannot be read
    """
    return _walk(conf).sections()


def _walk(conf: cfg.ConfigOpts) -> _Walk:
    try:
        # Registers the options of the group.
        import glance.common.config  # noqa: F401
    except ImportError as error:
        raise exceptions.ConfigurationError(
            f'Glance cannot be imported: {error}; install it beside '
            'easystack-image') from error
    given = conf.paste_deploy.config_file or _FILE
    path = given if os.path.isabs(given) else conf.find_file(given)
    if not path or not os.path.isfile(path):
        raise exceptions.ConfigurationError(
            f'[paste_deploy] config_file: there is no {given}')
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with open(path, encoding='utf-8') as file:
            parser.read_file(file)
    except (OSError, UnicodeError, configparser.Error) as error:
        raise exceptions.ConfigurationError(
            f'{path} cannot be read: {error}') from error
    return _Walk(parser, path, conf.paste_deploy.flavor or '')


class _Walk:
    """Goes through a paste file, from the application on."""

    def __init__(self, parser: configparser.ConfigParser, path: str,
                 flavor: str) -> None:
        self._parser = parser
        self._path = path
        self._flavor = flavor
        self._seen: set[tuple[str, bool]] = set()
        self._make = True
        self._used: dict[str, dict[str, str]] = {}

    def run(self) -> Iterator[checks.Finding]:
        """Yield what is wrong."""
        yield from self._application(
            f'{APPLICATION}-{self._flavor}' if self._flavor else APPLICATION)

    def sections(self) -> dict[str, dict[str, str]]:
        """Return the sections of the parts, make none."""
        self._make = False
        for _ in self.run():
            # What is lacking is said by whoever makes it.
            pass
        return self._used

    def _application(self, name: str) -> Iterator[checks.Finding]:
        if (name, False) in self._seen:
            return
        self._seen.add((name, False))
        for kind in ('composite', 'pipeline', 'app'):
            section = f'{kind}:{name}'
            if self._parser.has_section(section):
                if kind == 'app':
                    yield from self._try(name, is_filter=False)
                else:
                    yield from self._parts(section)
                return
        yield checks.Finding(
            True, f'{self._path} has no application "{name}"'
            + (': see [paste_deploy] flavor'
               if name.startswith(APPLICATION) else ''))

    def _parts(self, section: str) -> Iterator[checks.Finding]:
        """Go on with the parts of a composite application, or a pipeline."""
        values = self._parser[section]
        # Glance's pipelines are chosen by the flavor.
        flavor = self._flavor or 'default'
        pipeline = values.get('pipeline') or values.get(flavor) or ''
        if not pipeline and values.get(_FACTORY, '').endswith(_BY_FLAVOR):
            yield checks.Finding(
                True, f'[{section}] of {self._path} has no pipeline '
                f'"{flavor}": see [paste_deploy] flavor')
        *filters, last = pipeline.split() or ['']
        for name in filters:
            if (name, True) not in self._seen:
                self._seen.add((name, True))
                yield from self._try(name, is_filter=True)
        for name in (last, *(value for key, value in values.items()
                             if key.startswith('/'))):
            if name:
                yield from self._application(name)

    def _try(self, name: str, is_filter: bool) -> Iterator[checks.Finding]:
        section = f'{"filter" if is_filter else "app"}:{name}'
        if self._parser.has_section(section):
            self._used.setdefault(section, dict(self._parser[section]))
        if not self._make:
            return
        # Glance brings it.
        from paste.deploy import loadwsgi

        uri = f'config:{self._path}'
        try:
            if is_filter:
                loadwsgi.loadfilter(uri, name=name)
            else:
                loadwsgi.loadcontext(loadwsgi.APP, uri, name=name)
        except (Exception, SystemExit) as error:
            # Whatever it is, it would keep the service from starting.
            kind = 'filter' if is_filter else 'application'
            yield checks.Finding(
                True, f'{kind} "{name}" of {self._path} cannot be made: '
                f'{type(error).__name__}: {error}')
