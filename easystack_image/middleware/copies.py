"""The API for the copies of an image: a filter for Glance's pipeline.

``GET /v2/images/{image_id}/copies`` shows where they are and how,
``POST /v2/images/{image_id}/copies/verify`` has all of them read now, and
bad ones replaced; what came of it is shown with the copies.

It stands right behind ``context``, whose request context it needs.  Whether
there is such an image, and whether the user may see it, is Glance's answer to
a request for the image itself; so an error is Glance's own, to the letter.
Whatever else is asked passes by untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
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
from easystack_image.middleware import subrequests
from easystack_image.policies import copies as rules
from easystack_image.policies import enforcer as enforcer_module

LOG = logging.getLogger(__name__)

#: What versionnegotiation makes of every version.
_PATH = re.compile('/v2/images/([^/]+)/copies(/verify)?')
_METHODS = {None: 'GET', '/verify': 'POST'}
_RULES = {None: rules.GET, '/verify': rules.VERIFY}
#: How a verification ended, the worst first.
_FAILED, _INCOMPLETE, _VERIFIED = 'failed', 'incomplete', 'verified'


class CopiesFilter:
    """Answers requests about copies, and passes on all others.

    :param app: what stands behind it
    :param conf: Glance's configuration
    """

    def __init__(self, app: subrequests.Application,
                 conf: cfg.ConfigOpts) -> None:
        self._app = app
        self._conf = conf
        self._enforcer = enforcer_module.Enforcer(conf)

    def __call__(self, environ: subrequests.Environ,
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        match = _PATH.fullmatch(environ.get('PATH_INFO', ''))
        if match is None:
            return self._app(environ, start_response)
        request = webob.Request(environ)
        answer: subrequests.Application
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
        shown = subrequests.show_image(self._app, request, image_id)
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
            except exceptions.DamagedImage as error:
                LOG.error('Store %(store)s: %(error)s',
                          {'store': name, 'error': error})
                raise exc.HTTPConflict(
                    explanation=f'Store {name} has no copy of image '
                                f'{image_id} that could be verified: all '
                                'that it has are damaged') from error
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
        found = []
        listed = []
        for name in names:
            if name in ours:
                record, verification = _store(name, image_id)
                found.append(verification)
            else:
                record = _record(name)
            listed.append(record)
        return {'image_id': image_id, 'stores': listed,
                'verification': _together(found)}


@dataclasses.dataclass(frozen=True, slots=True)
class _Verification:
    """How far a store is with verifying an image."""

    #: When it was asked for, if it is still to be done; else None.
    requested_at: float | None = None
    #: How the last one ended; '' if it did not yet, or nothing is known.
    result: str = ''
    ended_at: float = 0.0
    reason: str = ''

    @property
    def pending(self) -> bool:
        """Whether a repair is to come, without anybody's doing."""
        return self.requested_at is not None and self.result != _FAILED


def _verification(requested_at: float | None,
                  attempt: engine_module.RepairAttempt | None,
                  copies: Sequence[engine_module.Copy],
                  wanted: int) -> _Verification:
    """Return how far a verification is.

    :param requested_at: when it was asked for, if it is still to be done
    :param attempt: what came of it, if it was in vain
    :param copies: how they are now
    :param wanted: how many of them there should be
    """
    if requested_at is not None:
        if attempt is None:
            return _Verification(requested_at)
        return _Verification(
            requested_at, _FAILED if attempt.lost else _INCOMPLETE,
            attempt.ended_at, attempt.reason)
    good = [copy.verified_at for copy in copies
            if copy.state is engine_module.CopyState.GOOD]
    if len(good) >= wanted:
        return _Verification(result=_VERIFIED, ended_at=min(good))
    if not good and copies:
        return _Verification(result=_FAILED,
                             reason='no copy within reach is good')
    return _Verification()


def _together(found: Sequence[_Verification]) -> dict[str, Any]:
    """Return what is shown of the verifications in all stores."""
    requested = [each.requested_at for each in found
                 if each.requested_at is not None]
    results = {each.result for each in found}
    result = '' if '' in results else next(filter(
        results.__contains__, (_FAILED, _INCOMPLETE, _VERIFIED)), '')
    told = [each for each in found if each.result == result]
    ended = [each.ended_at for each in told] or [0.0]
    return {
        'pending': any(each.pending for each in found),
        'requested_at': _time(max(requested, default=0.0)),
        'result': result or None,
        'ended_at': _time(min(ended)) if result else None,
        'reason': '; '.join(each.reason for each in told if each.reason)}


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


def _store(name: str, image_id: str) -> tuple[dict[str, Any], _Verification]:
    """Return what one of our stores knows of an image."""
    try:
        engine = _engine(name)
    except exceptions.ConfigurationError as error:
        return _record(name, error=str(error)), _Verification()
    try:
        # The copies last: what has ended by now is seen of them.
        requested_at = engine.repair_requested_at(image_id)
        attempt = engine.repair_attempt(image_id)
        copies = engine.list_copies(image_id)
    except exceptions.BlockStoreError as error:
        return _record(name, engine, error=str(error)), _Verification()
    return _record(name, engine, copies), _verification(
        requested_at, attempt, copies, engine.copies)


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
            **local_conf: str) -> Callable[[subrequests.Application],
                                           CopiesFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: CopiesFilter(app, cfg.CONF)
