"""The image API as it is promised: a filter for Glance's pipeline.

It stands before ``versionnegotiation``, so that it sees whatever the service
answers: of Keystone's middleware, of Glance, and of the filters between them.
What is asked and what is answered is judged in :mod:`easystack_image.api`;
see doc/source/api.rst for what is different from Glance, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import logging

from oslo_config import cfg
from webob import acceptparse
from webob import exc

from easystack_image import exceptions
from easystack_image.api import errors
from easystack_image.api import query
from easystack_image.api import request_ids
from easystack_image.api import routes
from easystack_image.conf import api as options
from easystack_image.middleware import wsgi

LOG = logging.getLogger(__name__)

_JSON = 'application/json'
_CSV = 'text/csv'
#: More than any error says.
_MAX_ERROR = 1 << 16


class ApiFilter:
    """Makes Glance's API what the manual says.

    :param app: what stands behind it
    :param conf: Glance's configuration
    """

    def __init__(self, app: wsgi.Application, conf: cfg.ConfigOpts) -> None:
        options.register(conf)
        self._app = app
        self._conf = conf

    def __call__(self, environ: wsgi.Environ,
                 start_response: wsgi.StartResponse) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        request_id = _identify(environ)
        accept = _ask_for_json(environ)
        method = environ['REQUEST_METHOD']
        try:
            answer = self._answer(environ, method, accept)
        except exceptions.InvalidRequest as error:
            answer = _refusal(400, str(error))
        except Exception:
            LOG.exception('Request %s was not answered', request_id)
            answer = _refusal(500)
        if answer.code >= 400:
            _shape(answer, accept, method)
        start_response(answer.status, _with_id(answer.headers, request_id))
        return answer.body

    def _answer(self, environ: wsgi.Environ, method: str,
                accept: str) -> wsgi.Answer:
        route = routes.find(environ.get('PATH_INFO', ''), accept)
        if route.resource is routes.Resource.IMAGES and method == 'GET':
            return self._list(environ, accept)
        return wsgi.call(self._app, environ)

    def _list(self, environ: wsgi.Environ, accept: str) -> wsgi.Answer:
        asked = query.parse(environ.get('QUERY_STRING', ''))
        if _CSV in accept.lower():
            return self._export(environ, asked)
        return wsgi.call(self._app, environ)

    def _export(self, environ: wsgi.Environ,
                asked: query.ListQuery) -> wsgi.Answer:
        """Answer with a list as a table (CSV)."""
        del environ, asked
        raise exceptions.InvalidRequest('There is no export yet')


def _identify(environ: wsgi.Environ) -> str:
    """Return the identity of a request, and see that Glance uses it."""
    sent = environ.get('HTTP_X_OPENSTACK_REQUEST_ID')
    if sent is not None and request_ids.is_sound(sent):
        return request_ids.prefixed(sent)
    environ['HTTP_X_OPENSTACK_REQUEST_ID'] = made = request_ids.new()
    return made


def _with_id(headers: wsgi.Headers, request_id: str) -> wsgi.Headers:
    """Return headers with the identity of the request, in both spellings."""
    ours, theirs = request_ids.HEADERS
    for name, value in headers:
        if name.lower() == ours:
            return [*headers, (theirs, value)]
    return [*headers, (ours, request_id), (theirs, request_id)]


def _ask_for_json(environ: wsgi.Environ) -> str:
    """Have errors written in JSON unless the client wants something else.

    :returns: what the client said
    """
    accept: str = environ.get('HTTP_ACCEPT', '')
    if accept in ('', '*/*'):
        environ['HTTP_ACCEPT'] = _JSON
    return accept


def _wants_json(accept: str) -> bool:
    """Tell whether a client that gets an error can do with JSON."""
    if accept in ('', '*/*', _JSON):
        return True
    wanted = acceptparse.create_accept_header(accept)
    return bool(wanted.acceptable_offers([_JSON])) or not (
        wanted.acceptable_offers(['text/html', 'text/plain']))


def _refusal(code: int, message: str = '') -> wsgi.Answer:
    body = errors.envelope(code, message)
    answer = wsgi.Answer(f'{code} {errors.title(code)}', [], [])
    answer.replace(body, _JSON)
    return answer


def _shape(answer: wsgi.Answer, accept: str, method: str) -> None:
    """Put an error into the form that all of them have."""
    if _wants_json(accept):
        message = errors.message_of(answer.header('content-type'),
                                    answer.read(_MAX_ERROR))
        answer.replace(errors.envelope(answer.code, message), _JSON)
    elif answer.header('content-type') == _JSON:
        message = errors.message_of(_JSON, answer.read(_MAX_ERROR))
        kind = exc.status_map.get(answer.code, exc.HTTPInternalServerError)
        plain = wsgi.call(kind(explanation=message), {
            'REQUEST_METHOD': 'GET', 'HTTP_ACCEPT': accept})
        answer.replace(plain.read(), plain.header('content-type'))
    if method == 'HEAD':
        answer.body = []


def factory(global_conf: Mapping[str, str],
            **local_conf: str) -> Callable[[wsgi.Application], ApiFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: ApiFilter(app, cfg.CONF)
