"""The API for the copies of an image: a filter for Glance's pipeline.

``GET /v2/images/{image_id}/copies`` shows where they are and how,
``POST /v2/images/{image_id}/copies/verify`` has all of them read now, and
bad ones replaced.

It stands right behind ``context``, whose request context it needs.  Whether
there is such an image, and whether the user may see it, is Glance's answer to
a request for the image itself; so an error is Glance's own, to the letter.
Whatever else is asked passes by untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import datetime
import logging
import re
from typing import Any

from oslo_config import cfg
import webob
from webob import exc

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.conf import stores as stores_conf
from easystack_image.middleware import engines
from easystack_image.policies import copies as rules
from easystack_image.policies import enforcer as enforcer_module

LOG = logging.getLogger(__name__)

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

#: What versionnegotiation makes of every version.
_PATH = re.compile('/v2/images/([^/]+)/copies(/verify)?')
_METHODS = {None: 'GET', '/verify': 'POST'}
_RULES = {None: rules.GET, '/verify': rules.VERIFY}


class CopiesFilter:
    """Answers requests about copies, and passes on all others.

    :param app: what stands behind it
    :param conf: Glance's configuration
    """

    def __init__(self, app: Application, conf: cfg.ConfigOpts) -> None:
        self._app = app
        self._conf = conf
        self._enforcer = enforcer_module.Enforcer(conf)

    def __call__(self, environ: Environ,
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        match = _PATH.fullmatch(environ.get('PATH_INFO', ''))
        if match is None:
            return self._app(environ, start_response)
        request = webob.Request(environ)
        answer: Application
        try:
            answer = self._answer(request, match[1], match[2])
        except exc.HTTPException as error:
            # Knows by itself whether the client wants JSON or HTML.
            answer = error
        return answer(environ, start_response)

    def _answer(self, request: webob.Request, image_id: str,
                what: str | None) -> webob.Response:
        if request.method != _METHODS[what]:
            raise exc.HTTPMethodNotAllowed(
                headers=[('Allow', _METHODS[what])])
        context = getattr(request, 'context', None)
        if context is None:
            LOG.error('The filter easystack_copies must stand behind the '
                      'filter context: mend the paste file of Glance.')
            raise exc.HTTPInternalServerError()
        shown = self._show(request, image_id)
        if shown.status_int != 200:
            return shown
        image = shown.json_body
        if not self._enforcer.permits(context, _RULES[what], image):
            raise exc.HTTPForbidden(
                explanation='You are not authorized to complete '
                            f'{_RULES[what]} action.')
        names = _stores(image)
        if what:
            self._request_repair(image_id, names)
        record = self._describe(image_id, names)
        answer = webob.Response(json_body=record, charset='UTF-8',
                                content_type='application/json')
        if what:
            answer.status_int = 202
            answer.location = (f'{request.application_url}/v2/images/'
                               f'{image_id}/copies')
        return answer

    def _show(self, request: webob.Request, image_id: str) -> webob.Response:
        """Ask Glance for the image, for the same user."""
        asked = request.copy_get()
        # Not by its property, which would encode once more what is encoded.
        asked.environ['PATH_INFO'] = f'/v2/images/{image_id}'
        asked.query_string = ''
        # There is no body any more.
        asked.environ.pop('HTTP_TRANSFER_ENCODING', None)
        return asked.get_response(self._app)

    def _request_repair(self, image_id: str, names: list[str]) -> None:
        """Have all copies verified, in all stores that keep some."""
        ours = set(stores_conf.names(self._conf)).intersection(names)
        if not ours:
            raise exc.HTTPConflict(
                explanation=f'Image {image_id} is in no store that keeps '
                            f'copies: its stores are {", ".join(names)}')
        for name in sorted(ours):
            try:
                _engine(name).request_repair(image_id)
            except exceptions.ImageNotFound as error:
                raise exc.HTTPConflict(
                    explanation=f'Store {name} has no copy of image '
                                f'{image_id}') from error
            except exceptions.EasystackImageError as error:
                # It may name devices, which not everybody may know.
                LOG.error('The copies of image %(image)s in store %(store)s '
                          'cannot be verified: %(error)s',
                          {'image': image_id, 'store': name, 'error': error})
                raise exc.HTTPServiceUnavailable(
                    explanation=f'Store {name} cannot verify image '
                                f'{image_id} now') from error

    def _describe(self, image_id: str, names: list[str]) -> dict[str, Any]:
        ours = stores_conf.names(self._conf)
        requested: list[float] = []
        listed = []
        for name in names:
            if name in ours:
                record, at = _store(name, image_id)
                requested += [at] if at is not None else []
            else:
                record = _record(name)
            listed.append(record)
        return {'image_id': image_id, 'stores': listed,
                'verification': {
                    'pending': bool(requested),
                    'requested_at': _time(max(requested, default=0.0))}}


def _stores(image: Mapping[str, Any]) -> list[str]:
    """Return the stores that an image is in.

    :param image: as Glance shows it
    :raises webob.exc.HTTPConflict: if it has no data
    """
    names = [name for name in str(image.get('stores', '')).split(',') if name]
    if not names:
        raise exc.HTTPConflict(
            explanation=f'Image {image["id"]} has no data in any store: its '
                        f'status is {image["status"]}')
    return names


def _engine(name: str) -> engine_module.Engine:
    engine = engines.running(name)
    if engine is None:
        raise exceptions.ConfigurationError(
            f'store {name} is not loaded in this process; see the log of '
            'its start')
    return engine


def _store(name: str, image_id: str) -> tuple[dict[str, Any], float | None]:
    """Return what one of our stores knows of an image.

    :returns: the record, and when a repair was requested
    """
    try:
        engine = _engine(name)
    except exceptions.ConfigurationError as error:
        return _record(name, error=str(error)), None
    try:
        copies = engine.list_copies(image_id)
        requested_at = engine.repair_requested_at(image_id)
    except exceptions.BlockStoreError as error:
        return _record(name, engine, error=str(error)), None
    return _record(name, engine, copies), requested_at


def _record(name: str, engine: engine_module.Engine | None = None,
            copies: Iterable[engine_module.Copy] = (),
            error: str = '') -> dict[str, Any]:
    return {
        'store': name,
        'wanted': engine.copies if engine else None,
        'minimum': engine.min_copies if engine else None,
        'error': error,
        'copies': [{'device': copy.device, 'zone': copy.zone,
                    'state': copy.state.value, 'reason': copy.reason,
                    'bytes': copy.size,
                    'verified_at': _time(copy.verified_at)}
                   for copy in copies]}


def _time(seconds: float) -> str | None:
    """Return a time in ISO 8601, in UTC; None for 0, which is unknown."""
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime(
        '%Y-%m-%dT%H:%M:%S.%fZ')


def factory(global_conf: Mapping[str, str],
            **local_conf: str) -> Callable[[Application], CopiesFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: CopiesFilter(app, cfg.CONF)
