"""What images claim about where they boot: a filter for Glance's pipeline.

Requests in the words of the manual are passed on with the values that Nova,
Ironic and Cinder compare; unknown values and combinations that cannot boot
are refused with 400, and what the policy does not allow with 403.  Lists are
filtered in the same words.  All other requests, and those for an image, pass
by untouched.

It stands right behind ``context``, whose request context it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import json
import logging
import re
from typing import Any
import urllib.parse

from oslo_config import cfg
import webob
from webob import exc

from easystack_image import exceptions
from easystack_image.conf import properties as options
from easystack_image.middleware import input as input_
from easystack_image.middleware import routing
from easystack_image.middleware import subrequests
from easystack_image.policies import enforcer as enforcer_module
from easystack_image.policies import properties as rules
from easystack_image.properties import catalog
from easystack_image.properties import changes
from easystack_image.properties import combinations
from easystack_image.properties import normalise

LOG = logging.getLogger(__name__)

#: What versionnegotiation makes of every version; Glance forgives a slash
#: too many.
_IMAGES = re.compile('/+v2/+images/*')
_IMAGE = re.compile('/+v2/+images/+([^/]+)/*')
#: That of services in Keystone; Glance's own rule service_api asks for it.
_SERVICE_ROLE = 'service'
_TASKS = re.compile('/+v2/+tasks/*')
#: How long the body of such a request may be, in bytes.
_LIMIT = 4 << 20


def make_catalogue(conf: cfg.ConfigOpts) -> catalog.Catalogue:
    """Return the catalogue of a deployment.

    :param conf: Glance's configuration
    :raises easystack_image.exceptions.ConfigurationError: if it cannot work
    """
    group = options.register(conf)
    unknown = set(group.disabled_rules).difference(combinations.RULES)
    if unknown:
        raise exceptions.ConfigurationError(
            f'[{options.GROUP}] disabled_rules: there is no rule '
            f'{", ".join(sorted(unknown))}, but '
            f'{", ".join(combinations.RULES)}')
    return catalog.configured(group)


class PropertiesFilter:
    """Translates, checks and passes on.

    :param app: what stands behind it
    :param conf: Glance's configuration
    :raises easystack_image.exceptions.ConfigurationError: if it cannot work
    """

    def __init__(self, app: subrequests.Application,
                 conf: cfg.ConfigOpts) -> None:
        self._app = app
        self._catalogue = make_catalogue(conf)
        self._group = options.register(conf)
        self._enforcer = enforcer_module.Enforcer(conf)

    def __call__(self, environ: subrequests.Environ,
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        refused = routing.refusal(environ)
        if refused:
            sent: Iterable[bytes] = refused(environ, start_response)
            return sent
        handler = self._handler(environ)
        if handler is None:
            return self._app(environ, start_response)
        request = webob.Request(environ)
        answer: subrequests.Application
        try:
            answer = handler(request) or self._app
        except exceptions.InvalidRequest as error:
            answer = exc.HTTPBadRequest(explanation=str(error))
        except exc.HTTPException as error:
            # Knows by itself whether the client wants JSON or HTML.
            answer = error
        return answer(environ, start_response)

    def _handler(self, environ: subrequests.Environ) -> Callable[
            [webob.Request], webob.Response | None] | None:
        method = environ['REQUEST_METHOD']
        path = environ.get('PATH_INFO', '')
        if method in ('GET', 'HEAD'):
            return (self._list if environ.get('QUERY_STRING')
                    and _IMAGES.fullmatch(path) else None)
        if method == 'POST' and _IMAGES.fullmatch(path):
            return self._create
        if method == 'POST' and _TASKS.fullmatch(path):
            return self._start_task
        return (self._change if method == 'PATCH' and _IMAGE.fullmatch(path)
                else None)

    def _list(self, request: webob.Request) -> None:
        """Filter a list by canonical values."""
        pairs = [part.partition('=') for part in
                 request.environ['QUERY_STRING'].split('&')]
        if any(catalog.meaning_of(urllib.parse.unquote_plus(name))
               for name, _, _ in pairs):
            request.environ['QUERY_STRING'] = '&'.join(
                translated for part in pairs
                for translated in self._filter(*part))

    def _filter(self, name: str, sign: str, value: str) -> list[str]:
        """Return the parts of a query that stand for one of it."""
        given = (urllib.parse.unquote_plus(name),
                 urllib.parse.unquote_plus(value))
        found = normalise.filters(self._catalogue, [given])
        if found == [given]:
            # To the letter, whatever it is.
            return [name + sign + value]
        return [urllib.parse.urlencode([pair]) for pair in found]

    def _create(self, request: webob.Request) -> None:
        """See to the properties of a new image."""
        body = input_.take_json(request.environ, _LIMIT)
        if isinstance(body, dict):
            canonical = self._creation(request, body)
            if canonical != body:
                _write_json(request, canonical)

    def _start_task(self, request: webob.Request) -> None:
        """See to the properties of an image that a task makes."""
        body = input_.take_json(request.environ, _LIMIT)
        given = body.get('input') if isinstance(body, dict) else None
        given = given.get('image_properties') if isinstance(
            given, dict) else None
        if isinstance(given, dict):
            canonical = self._creation(request, given)
            if canonical != given:
                body['input']['image_properties'] = canonical
                _write_json(request, body)

    def _creation(self, request: webob.Request,
                  given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an image is made of, in canonical values.

        :raises webob.exc.HTTPForbidden: if the user may not say so
        """
        if not combinations.NAMES.intersection(given):
            return dict(given)
        context = _context_of(request)
        image = normalise.properties(self._catalogue, given,
                                     self._lenient(context))
        combinations.check(image, self._group.disabled_rules)
        self._see_permitted(context, changes.creation(
            {name: image[name] for name in image
             if name in given or _moved(name, given)}),
            {'owner': context.project_id, 'status': 'queued'} | image)
        return image

    def _change(self, request: webob.Request) -> webob.Response | None:
        """See to the properties that a patch changes.

        :returns: Glance's answer if there is no such image
        """
        form = request.content_type
        patch = (input_.take_json(request.environ, _LIMIT)
                 if form in changes.FORMS else None)
        if not isinstance(patch, list) or not combinations.NAMES.intersection(
                changes.names(patch, form)):
            return None
        context = _context_of(request)
        match = _IMAGE.fullmatch(request.environ['PATH_INFO'])
        shown = subrequests.show_image(self._app, request,
                                       match[1] if match else '')
        if shown.status_int != 200:
            return shown
        before = shown.json_body
        changed = changes.Patch(self._catalogue, before, form,
                                self._lenient(context))
        changed.apply(patch)
        combinations.check(changed.image, self._group.disabled_rules)
        self._see_permitted(context, changed.changes, before)
        _write_json(request, changed.operations)
        return None

    def _lenient(self, context: Any) -> bool:
        """Tell whether unknown values may stay as they are.

        They may where a service asks in the name of a user: what Nova and
        Cinder send is what an image from before said.
        """
        # Where service_token_roles_required is off, any user's token counts
        # as a service's; its roles are what tells.
        return not self._group.refuse_unknown or (
            _SERVICE_ROLE in context.service_roles)

    def _see_permitted(self, context: Any,
                       wanted: Iterable[changes.Change],
                       image: Mapping[str, Any]) -> None:
        """Ask the rule of each change.

        :raises webob.exc.HTTPForbidden: naming the rule that says no
        """
        for change in wanted:
            if not change.action:
                continue
            rule = rules.rule_for(catalog.meaning_of(change.name),
                                  change.action)
            target = {**image, 'property': change.name,
                      'old_value': change.old, 'new_value': change.new}
            if not self._enforcer.permits(context, rule, target):
                raise exc.HTTPForbidden(
                    explanation='You are not authorized to complete '
                                f'{rule} action.')


def _moved(name: str, given: Mapping[str, Any]) -> bool:
    """Tell whether an OS type was given in Nova's property instead."""
    return name == catalog.OS_DISTRO and catalog.OS_TYPE in given


def _context_of(request: webob.Request) -> Any:
    context = getattr(request, 'context', None)
    if context is None:
        LOG.error('The filter easystack_properties must stand behind the '
                  'filter context: mend the paste file of Glance.')
        raise exc.HTTPInternalServerError()
    return context


def _write_json(request: webob.Request, body: Any) -> None:
    request.body = json.dumps(body).encode()


def factory(global_conf: Mapping[str, str], **local_conf: str) -> Callable[
        [subrequests.Application], PropertiesFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: PropertiesFilter(app, cfg.CONF)
