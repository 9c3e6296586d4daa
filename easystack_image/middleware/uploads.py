"""Whoever may not upload, may not do it by a detour: a filter for Glance.

Glance asks its rule ``upload_image`` when data is sent with ``PUT
/v2/images/{image_id}/file``, and not when it is staged, imported or fetched
from a URL.  This filter asks for those as well; its rules follow
``upload_image`` unless a deployer says otherwise.

It stands behind ``context``, whose request context it needs, and in front of
whatever reads the data.  Whether there is such an image, and whether the user
may see it, is Glance's answer to a request for the image itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import logging
import re
from typing import Any

from oslo_config import cfg
import webob
from webob import exc

from easystack_image.middleware import input as input_
from easystack_image.middleware import routing
from easystack_image.middleware import subrequests
from easystack_image.policies import enforcer as enforcer_module
from easystack_image.policies import uploads as rules

LOG = logging.getLogger(__name__)

#: What versionnegotiation makes of every version.
_PATH = re.compile('/v2/images/([^/]+)/(stage|import)/?')
_METHODS = {'stage': 'PUT', 'import': 'POST'}
_RULES = {'stage': rules.STAGE, 'import': rules.IMPORT}
#: In bytes: what a request for an import holds is a method and some names.
_LIMIT = 1 << 20
#: Brings nothing in, and has a rule of Glance's own.
_COPY = 'copy-image'


class UploadsFilter:
    """Refuses uploads by detours, and passes on all other requests.

    :param app: what stands behind it
    :param conf: Glance's configuration
    """

    def __init__(self, app: subrequests.Application,
                 conf: cfg.ConfigOpts) -> None:
        self._app = app
        self._enforcer = enforcer_module.Enforcer(conf)

    def __call__(self, environ: subrequests.Environ,
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        refused = routing.refusal(environ)
        if refused:
            sent: Iterable[bytes] = refused(environ, start_response)
            return sent
        match = _PATH.fullmatch(environ.get('PATH_INFO', ''))
        if match is None or environ['REQUEST_METHOD'] != _METHODS[match[2]]:
            return self._app(environ, start_response)
        request = webob.Request(environ)
        answer: subrequests.Application
        try:
            answer = self._judge(request, match[1], match[2]) or self._app
        except exc.HTTPException as error:
            # Knows by itself whether the client wants JSON or HTML.
            answer = error
        return answer(environ, start_response)

    def _judge(self, request: webob.Request, image_id: str,
               what: str) -> webob.Response | None:
        """Return Glance's answer if there is no such image.

        :raises webob.exc.HTTPForbidden: if the user may not do it
        """
        context = getattr(request, 'context', None)
        if context is None:
            LOG.error('The filter easystack_uploads must stand behind the '
                      'filter context: mend the paste file of Glance.')
            raise exc.HTTPInternalServerError()
        method = _import_method(request) if what == 'import' else ''
        if method == _COPY:
            return None
        shown = subrequests.show_image(self._app, request, image_id)
        if shown.status_int != 200:
            return shown
        image = shown.json_body | {'import_method': method}
        if not self._enforcer.permits(context, _RULES[what], image):
            raise exc.HTTPForbidden(
                explanation='You are not authorized to complete '
                            f'{_RULES[what]} action.')
        return None


def _import_method(request: webob.Request) -> str:
    """Return the name of the method, '' if Glance will not know any.

    The body stays to be read once more, by Glance, the very same bytes.

    :raises webob.exc.HTTPError: if it is no such request
    """
    try:
        found = input_.take_json(request.environ, _LIMIT)['method']['name']
    except (LookupError, TypeError):
        return ''
    return found if isinstance(found, str) else ''


def factory(global_conf: Mapping[str, str], **local_conf: str) -> Callable[
        [subrequests.Application], UploadsFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: UploadsFilter(app, cfg.CONF)
