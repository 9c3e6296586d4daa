"""The image API as it is promised: a filter for Glance's pipeline.

It stands before ``versionnegotiation``, so that it sees whatever the service
answers: of Keystone's middleware, of Glance, and of the filters between them.
What is asked and what is answered is judged in :mod:`easystack_image.api`;
see doc/source/api.rst for what is different from Glance, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import json
import logging
from typing import Any

from oslo_config import cfg
import webob
from webob import acceptparse
from webob import exc

from easystack_image import exceptions
from easystack_image.api import bodies
from easystack_image.api import errors
from easystack_image.api import links
from easystack_image.api import query
from easystack_image.api import request_ids
from easystack_image.api import routes
from easystack_image.api import states
from easystack_image.conf import api as options
from easystack_image.middleware import export
from easystack_image.middleware import input as input_
from easystack_image.middleware import listing
from easystack_image.middleware import wsgi

LOG = logging.getLogger(__name__)

_JSON = 'application/json'
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
        group = conf[options.GROUP]
        self._modifiable = frozenset(group.modifiable_states)
        self._links: bool = group.links
        # Glance fails (500) at longer ones, where it wants to say no (431).
        self._longest_id: int = getattr(
            conf, 'max_request_id_length', 0) or request_ids.MAX_LENGTH
        self._max_body = 1024 * group.max_body_kib

    def __call__(self, environ: wsgi.Environ,
                 start_response: wsgi.StartResponse) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        request_id = _identify(environ, self._longest_id)
        accept = _ask_for_json(environ)
        method = environ['REQUEST_METHOD']
        try:
            answer = self._answer(environ, method, accept)
        except exceptions.InvalidRequest as error:
            answer = refusal(400, str(error))
        except Exception:
            LOG.exception('Request %s was not answered', request_id)
            answer = refusal(500)
        if answer.code >= 400:
            _shape(answer, accept)
        if method == 'HEAD':
            answer.close()
            answer.body = []
        start_response(answer.status, _with_id(answer.headers, request_id))
        return answer.body

    def _answer(self, environ: wsgi.Environ, method: str,
                accept: str) -> wsgi.Answer:
        path = environ.get('PATH_INFO', '')
        routes.check_path(path)
        query_string = environ.get('QUERY_STRING', '')
        query.check_method(query_string)
        if query.is_lost(query_string, environ.get('REQUEST_URI', '')):
            return refusal(414, 'The URL is too long')
        route = routes.find(path, accept)
        if method in ('POST', 'PATCH', 'PUT') and not routes.is_upload(
                method, path):
            return self._change(environ, method, route)
        if method in ('GET', 'HEAD'):
            if route.resource is routes.Resource.IMAGES:
                environ['REQUEST_METHOD'] = 'GET'
                return self._list(environ, accept)
            if route.resource is routes.Resource.IMAGE:
                environ['REQUEST_METHOD'] = 'GET'
                return self._show(environ)
            if route.resource is routes.Resource.FILE and method == 'GET':
                return self._download(environ, path)
        return wsgi.call(self._app, environ)

    def _list(self, environ: wsgi.Environ, accept: str) -> wsgi.Answer:
        asked = query.parse(environ.get('QUERY_STRING', ''))
        if export.wanted(accept):
            answer = self._export(environ, asked)
            if answer.code != 200 or answer.header(
                    'content-type').startswith('text/csv'):
                return answer
            # There is no such filter in the pipeline: it is a list in JSON.
            answer.close()
        base = self._base(environ)
        if asked.only_images:
            answer = listing.pick(self._app, environ, asked)
        elif asked.plain:
            answer = wsgi.call(self._app, environ)
        else:
            environ['QUERY_STRING'] = query.encode(asked.asked)
            answer = listing.rewrite(wsgi.call(self._app, environ), asked)
        if self._links and answer.code == 200:
            record = json.loads(answer.read())
            for image in record['images']:
                links.add(image, base)
            listing.dump(answer, record)
        return answer

    def _export(self, environ: wsgi.Environ,
                asked: query.ListQuery) -> wsgi.Answer:
        """Ask the filter ``easystack_export``, further in, for a table."""
        exported = environ | {'QUERY_STRING': query.encode(asked.asked)}
        if asked.only_images:
            exported[export.KEEP] = asked.wants
        return wsgi.call(self._app, exported)

    def _show(self, environ: wsgi.Environ) -> wsgi.Answer:
        base = self._base(environ)
        answer = wsgi.call(self._app, environ)
        if self._links and answer.code == 200:
            image = json.loads(answer.read())
            links.add(image, base)
            listing.dump(answer, image)
        return answer

    def _base(self, environ: wsgi.Environ) -> str:
        """Return the URL of the service, as Glance's list of versions."""
        if not self._links:
            return ''
        public: str | None = getattr(self._conf, 'public_endpoint', None)
        return public or str(webob.Request(environ).application_url)

    def _change(self, environ: wsgi.Environ, method: str,
                route: routes.Route) -> wsgi.Answer:
        """Pass on what is to change something, if Glance can read it."""
        try:
            body = input_.take(environ, self._max_body)
        except input_.TooLarge:
            return refusal(413, 'The body of the request is larger than '
                                 f'{self._max_body} bytes')
        except ValueError:
            return refusal(400, 'The header Content-Length is no number')
        content = bodies.check(body)
        given = environ.get('CONTENT_TYPE', '').partition(';')[0]
        given = given.strip().lower()
        if method == 'POST' and given in bodies.FORMS:
            environ['CONTENT_TYPE'] = bodies.JSON
        if route.resource is routes.Resource.IMAGES:
            bodies.check_image(content)
        elif route.resource is routes.Resource.IMPORT:
            bodies.check_import(content)
        elif route.resource is routes.Resource.IMAGE and method == 'PATCH':
            media_type = bodies.type_of_changes(content, given)
            if media_type == bodies.CHANGES:
                environ['CONTENT_TYPE'] = media_type
            bodies.check_changes(content, media_type)
            shown = self._look(environ, environ['PATH_INFO'])
            why_not = shown and states.why_not_modified(shown,
                                                        self._modifiable)
            if why_not:
                return refusal(409, why_not)
        return wsgi.call(self._app, environ)

    def _download(self, environ: wsgi.Environ, path: str) -> wsgi.Answer:
        before = environ.copy()
        answer = wsgi.call(self._app, environ)
        if answer.code != 204:
            return answer
        # Glance says that there is nothing, be it lost or not there yet.
        image = self._look(before, path.removesuffix('/file'))
        lost = image and states.lost_data(image)
        if not lost:
            return answer
        answer.close()
        LOG.error('%s', lost)
        return refusal(404, lost)

    def _look(self, environ: wsgi.Environ, path: str) -> dict[str, Any]:
        """Return what Glance shows of an image, nothing if it says no."""
        answer = wsgi.call(self._app, wsgi.subrequest(environ, path))
        body = answer.read()
        return json.loads(body) if answer.code == 200 else {}


def _identify(environ: wsgi.Environ, longest: int) -> str:
    """Return the identity of a request, and see that Glance uses it."""
    sent = environ.get('HTTP_X_OPENSTACK_REQUEST_ID')
    if sent is not None and request_ids.is_sound(sent, longest):
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


def refusal(code: int, message: str = '') -> wsgi.Answer:
    """Return an error in the form that all of them have.

    :param message: for the user; without one, there are words for each code
    """
    body = errors.envelope(code, message)
    answer = wsgi.Answer(f'{code} {errors.title(code)}', [], [])
    answer.replace(body, _JSON)
    return answer


def _shape(answer: wsgi.Answer, accept: str) -> None:
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


def factory(global_conf: Mapping[str, str],
            **local_conf: str) -> Callable[[wsgi.Application], ApiFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: ApiFilter(app, cfg.CONF)
