"""Which release answers, and what it is at: a filter for Glance's pipeline.

It stands before everything that takes time, so that it sees each request
from its beginning to the last byte of the answer.  It names the release in
each answer, and counts, for the updater, what the process is at and how it
went: :mod:`easystack_image.ota.serving.counts`.  Bodies pass by as they are.
To the other nodes it tells, in answers to ``GET /``, whether an upgrade of
this one has ended: :mod:`easystack_image.ota.serving.standing`.

``GET /easystack/ota`` shows an administrator the release, the instances of
the service on this node, and the last upgrade.  Who asks is known further in
only; so the filter first asks Glance for something small with the user's
token, and goes by the context that Glance made of it.  An error on the way
is Glance's own, or Keystone's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import functools
import importlib.metadata
import json
import logging
import os
from pathlib import Path
import platform
import sys
import time
from typing import Any

from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.api import routes
from easystack_image.conf import ota as options
from easystack_image.middleware import api
from easystack_image.middleware import wsgi
from easystack_image.ota.serving import counting
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import overview
from easystack_image.ota.serving import standing
from easystack_image.ota.slots import seal
from easystack_image.policies import enforcer as enforcer_module
from easystack_image.policies import ota as rules

LOG = logging.getLogger(__name__)

HEADER = layout.RELEASE_HEADER
PATH = '/easystack/ota'
#: Where the other nodes ask how this one stands.
_ROOT = ('', '/')
#: What Glance shows everybody whom it knows, without asking its database.
_SMALL = '/v2/schemas/image'
_KINDS = {routes.Resource.IMAGES: counts.Kind.LIST,
          routes.Resource.IMAGE: counts.Kind.GET,
          routes.Resource.FILE: counts.Kind.DOWNLOAD}
_RESULTS = {'2': counts.Result.SUCCESS, '3': counts.Result.REDIRECT,
            '4': counts.Result.REFUSED, '5': counts.Result.FAILED}


class OtaFilter:
    """Counts requests, and names the release in the answers.

    :param app: what stands behind it
    :param conf: Glance's configuration
    :param counter: what is counted with
    """

    def __init__(self, app: wsgi.Application, conf: cfg.ConfigOpts,
                 counter: counting.Counter) -> None:
        self._app = app
        self._counter = counter
        group = options.register(conf)
        self._state_directory = Path(group.state_directory)
        self._headers = [(HEADER, release())] if group.name_release else []
        self._tells = bool(self._headers)
        self._enforcer = enforcer_module.Enforcer(conf)

    def __call__(self, environ: wsgi.Environ,
                 start_response: wsgi.StartResponse) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        if layout.WARMING in environ:
            return self._app(environ, start_response)
        app = (self._overview if environ.get('PATH_INFO') == PATH
               else self._app)
        headers = self._headers
        if self._tells and environ.get('PATH_INFO', '') in _ROOT:
            headers = [*headers, *_standing()]
        exchange = _Exchange(self._counter, _kind(environ), headers,
                             start_response)
        exchange.run(app, environ)
        return exchange

    def _overview(self, environ: wsgi.Environ,
                  start_response: wsgi.StartResponse) -> Iterable[bytes]:
        answer = self._show(environ)
        start_response(answer.status, answer.headers)
        return answer.body

    def _show(self, environ: wsgi.Environ) -> wsgi.Answer:
        if environ['REQUEST_METHOD'] != 'GET':
            answer = api.refusal(405)
            answer.headers.append(('Allow', 'GET'))
            return answer
        asked = wsgi.subrequest(environ, _SMALL)
        asked['HTTP_ACCEPT'] = 'application/json'
        answer = wsgi.call(self._app, asked)
        if answer.code >= 400:
            return answer
        answer.close()
        context = wsgi.context_of(asked)
        if context is None:
            LOG.error('The filter easystack_ota found no context of the '
                      'request: the filter context is lacking behind it.')
            return api.refusal(500)
        if not self._enforcer.permits(context, rules.GET, {}):
            return api.refusal(403, 'You are not authorized to complete '
                                    f'{rules.GET} action.')
        answer = wsgi.Answer('200 OK', [], [])
        answer.replace(json.dumps(self._describe()).encode(),
                       'application/json')
        return answer

    def _describe(self) -> dict[str, Any]:
        place = _place()
        found = self._counter.now()
        upgrade, unreadable = overview.try_last_upgrade(
            self._state_directory)
        return {
            'release': release(), 'slot': sys.prefix,
            'versions': {'easystack-image': _version('easystack-image'),
                         'glance': _version('glance'),
                         'python': platform.python_version()},
            'instance': place.name if place else None,
            'process': {'pid': os.getpid(), **overview.shown(found)},
            'instances': overview.instances(place.path.parent)
            if place else [],
            'upgrade': upgrade, 'upgrade_unreadable': unreadable}


class _Exchange:
    """A request and its answer, from the beginning to the end."""

    __slots__ = ('_began', '_body', '_counter', '_ended', '_extra',
                 '_heard', '_kind', '_pieces', '_result', '_start_response',
                 '_ticket')

    def __init__(self, counter: counting.Counter, kind: counts.Kind,
                 extra: wsgi.Headers,
                 start_response: wsgi.StartResponse) -> None:
        self._counter = counter
        self._kind = kind
        self._extra = extra
        self._start_response = start_response
        self._result: counts.Result | None = None
        self._heard = kind in counts.TRANSFERS
        self._ended = False
        self._body: Iterable[bytes] = ()
        self._began = time.perf_counter()
        self._ticket = counter.begin(kind)

    def run(self, app: wsgi.Application, environ: wsgi.Environ) -> None:
        """Have an application answer.

        :raises Exception: whatever it lets escape
        """
        try:
            self._body = app(environ, self._start)
            self._pieces = iter(self._body)
        except BaseException:
            self._result = counts.Result.CUT
            self._end()
            raise
        # Most have the whole answer at hand by now.
        if self._result is not None:
            self._hear()

    def _start(self, status: str, headers: wsgi.Headers,
               *error: Any) -> Callable[[bytes], Any]:
        self._result = _RESULTS.get(status[:1], counts.Result.FAILED)
        write: Callable[[bytes], Any] = self._start_response(
            status, [*headers, *self._extra], *error)
        return write

    def _hear(self) -> None:
        if not self._heard:
            self._heard = True
            self._counter.answered(self._kind,
                                   time.perf_counter() - self._began,
                                   self._ticket)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            raise
        except BaseException:
            self._result = counts.Result.CUT
            raise
        self._hear()
        return piece

    def close(self) -> None:
        """Hear that the server has sent it, or gave it up."""
        try:
            close = getattr(self._body, 'close', None)
            if close is not None:
                close()
        finally:
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._counter.end(self._kind,
                              self._result or counts.Result.CUT,
                              self._ticket)


def _kind(environ: wsgi.Environ) -> counts.Kind:
    """Return what a request is about, by the method and the path alone."""
    method = environ['REQUEST_METHOD']
    path = environ.get('PATH_INFO', '')
    if method in ('GET', 'HEAD'):
        resource = routes.find(path, environ.get('HTTP_ACCEPT', '')).resource
        return _KINDS.get(resource, counts.Kind.OTHER)
    if routes.is_upload(method, path):
        return counts.Kind.UPLOAD
    if method in ('POST', 'PATCH', 'PUT', 'DELETE'):
        return counts.Kind.CHANGE
    return counts.Kind.OTHER


@functools.cache
def release() -> str:
    """Return the version of the release that this process is of.

    That of the slot; without one, the version of this package.
    """
    try:
        found = seal.read(Path(sys.prefix), keep=False)
    except (exceptions.SlotError, OSError) as error:
        LOG.warning('Which release this is cannot be read: %s', error)
        found = None
    return found.release.version if found else _version('easystack-image')


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ''


def _place() -> layout.Place | None:
    """Return the directory of the instance that this process is of."""
    directory = os.environ.get(layout.DIRECTORY_VARIABLE)
    return layout.Place(Path(directory)) if directory else None


def _standing() -> wsgi.Headers:
    """Return the header that tells other nodes how this one stands."""
    place = _place()
    if place is None:
        return []
    try:
        found = standing.told(Path(sys.prefix), place.path.parent)
    except (OSError, ValueError) as error:
        LOG.warning('How this node stands cannot be told: %s', error)
        return []
    return [(layout.STANDING_HEADER, found.header())]


@functools.cache
def _process_counter() -> counting.Counter:
    """Return the counter of this process, whatever pipelines it has."""
    place = _place()
    uwsgi: Any = sys.modules.get('uwsgi')
    if place is None or uwsgi is None:
        return counting.private_counter()
    worker = uwsgi.worker_id()
    if worker in (0, int(os.environ[layout.PRIVATE_WORKER_VARIABLE])):
        return counting.private_counter()
    try:
        return counting.open_counter(place, worker)
    except OSError:
        LOG.exception('Requests cannot be counted for the updater')
        return counting.private_counter()


def factory(global_conf: Mapping[str, str],
            **local_conf: str) -> Callable[[wsgi.Application], OtaFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: OtaFilter(app, cfg.CONF, _process_counter())
