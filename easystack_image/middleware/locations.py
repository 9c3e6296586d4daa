"""Whether Glance would take a location at all, before anybody looks there.

Glance answers only after the filter has read what is at a location.  Whoever
may not add locations, or not this one, must not have it opened: the answer
would tell whether a file exists, or what an image of somebody else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
import urllib.parse

from oslo_config import cfg
from webob import exc

from easystack_image import exceptions
from easystack_image.conf import content as content_conf
from easystack_image.content import urls as urls_module
from easystack_image.policies import enforcer as enforcer_module

#: Files of the host, and passwords in files: Glance takes them from nobody
#: (``RESTRICTED_URI_SCHEMAS`` in ``glance/common/store_utils.py``).
_RESTRICTED = frozenset({'file', 'filesystem', 'swift+config'})
#: Glance's own rules, by the method of the request.
_RULES = {'PATCH': 'set_image_location', 'POST': 'add_image_location'}


class Locations:
    """Tells who may add which locations, as Glance has it.

    :param conf: Glance's configuration
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._enforcer = enforcer_module.Enforcer(conf)
        self._by_patch = content_conf.show_multiple_locations(conf)

    def check(self, context: Any, method: str, image: Mapping[str, Any],
              urls: Iterable[str]) -> None:
        """See that Glance would not refuse them unseen.

        :param context: of the request
        :param method: ``PATCH`` of the image, or ``POST`` of a location
        :param image: as ``GET /v2/images/{image_id}`` shows it
        :raises webob.exc.HTTPForbidden: if the user may not
        :raises easystack_image.exceptions.UrlRefused: if nobody may
        """
        if method == 'PATCH' and not self._by_patch:
            raise exc.HTTPForbidden(
                explanation='Locations are not shown here '
                            '(show_multiple_locations), so they cannot be '
                            'changed')
        rule = _RULES[method]
        if not self._enforcer.permits(context, rule, image):
            raise exc.HTTPForbidden(
                explanation=f'You are not authorized to complete {rule} '
                            'action.')
        # glance/api/v2/images.py, add_location
        only_http = method == 'POST' and 'service' not in {
            *context.roles, *context.service_roles}
        for url in urls:
            scheme = scheme_of(url)
            if scheme in _RESTRICTED:
                raise exceptions.UrlRefused(
                    f'Locations of scheme {scheme} are taken from nobody')
            if only_http and scheme not in urls_module.PORTS:
                raise exc.HTTPForbidden(
                    explanation='Only services may add locations other than '
                                'http:// and https://')


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case, as Glance finds it.

    :raises easystack_image.exceptions.UrlRefused: if it is malformed
    """
    try:
        return urllib.parse.urlsplit(url).scheme
    except ValueError as error:
        raise exceptions.UrlRefused(f'The location is malformed: {error}'
                                    ) from error
