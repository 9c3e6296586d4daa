"""The content gate: a filter for Glance's pipeline.

Bytes that do not look like what their image declares get into no store, by
whichever way they come: ``PUT …/file``, ``PUT …/stage``, an import by any
method, a location, a task.  What becomes of imports once Glance has them
staged is checked by the import plugin of the same name
(:mod:`easystack_image.image_import.plugin`).

It stands right behind ``context``, whose request context it needs, and
behind filters that change what is declared.  Whatever brings no image data
passes by untouched, but for what a download that died says of its image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import json
import logging
from typing import Any

from oslo_config import cfg
import webob
from webob import exc

from easystack_image import exceptions
from easystack_image.conf import content as content_conf
from easystack_image.content import configured
from easystack_image.content import declaration
from easystack_image.middleware import answers
from easystack_image.middleware import asking
from easystack_image.middleware import downloads
from easystack_image.middleware import incoming
from easystack_image.middleware import input as input_
from easystack_image.middleware import locations
from easystack_image.middleware import origins
from easystack_image.middleware import reserved
from easystack_image.middleware import routing

LOG = logging.getLogger(__name__)

PLUGIN = 'easystack_content'
#: How long a body of JSON may be, in bytes; Glance expects far less.
_MAX_JSON = 4 << 20

_MIB = 1 << 20

#: What data are judged by, and while which states it must stay as it is.
_FIXED = {'disk_format', 'container_format', 'min_disk', 'hypervisor_type',
          'img_hv_type', declaration.EXPECTED_HASH}
_COMING = ('uploading', 'importing', 'saving')


class ContentFilter:
    """Judges image data, and passes on everything else.

    :param app: what stands behind it
    :param conf: Glance's configuration
    :raises easystack_image.exceptions.ConfigurationError: if an option
        cannot work
    """

    def __init__(self, app: asking.Application, conf: cfg.ConfigOpts) -> None:
        self._app = app
        self._glance = asking.Glance(app)
        rules = configured.image_rules(conf)
        url_rules = configured.url_rules(conf)
        limits = configured.limits(conf)
        self._options = conf[content_conf.GROUP]
        self._has_plugin = PLUGIN in content_conf.plugins(conf)
        if not self._has_plugin:
            LOG.warning(
                'The import plugin %(plugin)s is not in [image_import_opts] '
                'image_import_plugins: imports are judged by this filter '
                'only, and glance-download is refused.', {'plugin': PLUGIN})
        self._uploads = incoming.Uploads(
            app, rules, self._options.drain_size * _MIB,
            self._options.drain_time)
        self._downloads = downloads.Downloads(
            app, rules, url_rules, limits, self._options.downloads_at_once)
        self._permitted = locations.Locations(conf)
        self._origins = origins.Origins(app, conf, rules, url_rules, limits)

    def __call__(self, environ: asking.Environ,
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        refused = routing.refusal(environ)
        if refused:
            sent: Iterable[bytes] = refused(environ, start_response)
            return sent
        handle = self._handler(environ)
        if handle is None:
            return self._app(environ, start_response)
        answer: webob.Response | None
        try:
            answer = handle(environ)
        except exceptions.ContentError as error:
            answer = answers.of(error)
        except exc.HTTPException as error:
            answer = error
        if answer is None:
            return self._app(environ, start_response)
        sent = answer(environ, start_response)
        return sent

    def _handler(self, environ: asking.Environ) -> Callable[
            [asking.Environ], webob.Response | None] | None:
        """Return what looks at a request, None if nothing has to."""
        # Routes takes some slashes more or less for the same.
        path = [part for part in environ.get('PATH_INFO', '').split('/')
                if part]
        match environ.get('REQUEST_METHOD'), path:
            case 'PUT', ['v2', 'images', image_id, 'file' | 'stage' as what]:
                return lambda env: self._uploads(env, image_id, what)
            case 'GET', ['v2', 'images', image_id]:
                return lambda env: self._show(env, image_id)
            case 'GET', ['v2', 'images', image_id, 'tasks']:
                return lambda env: self._tasks_of(env, image_id)
            case 'POST', ['v2', 'images', image_id, 'import']:
                return lambda env: self._import(env, image_id)
            case 'POST', ['v2', 'images', image_id, 'locations']:
                return lambda env: self._locations(env, image_id)
            case 'PATCH', ['v2', 'images', image_id]:
                return lambda env: self._change(env, image_id)
            case 'POST', ['v2', 'tasks']:
                return self._task
            case 'POST', ['v2', 'images']:
                return self._create
        return None

    def _import(self, environ: asking.Environ,
                image_id: str) -> webob.Response | None:
        body = input_.take_json(environ, _MAX_JSON)
        method = body.get('method') if isinstance(body, dict) else None
        if not isinstance(method, dict):
            return None
        name, uri = method.get('name'), method.get('uri')
        if name == 'copy-image' and (
                self._options.copy_image == content_conf.INSPECT):
            return self._origins.judge_image(environ, image_id)
        if name == 'glance-direct':
            self._see_staged(environ, image_id)
        if name == 'glance-download':
            self._expect_download(environ, image_id)
        if name == 'web-download' and isinstance(uri, str):
            if self._options.web_download == 'gate':
                return self._downloads.start(environ, image_id, body)
            self._downloads.check(uri)
        return None

    def _expect_download(self, environ: asking.Environ,
                         image_id: str) -> None:
        """See that something will judge what another Glance has.

        :raises webob.exc.HTTPBadRequest: if nothing will
        """
        if not self._has_plugin:
            raise exc.HTTPBadRequest(
                explanation=f'The import plugin {PLUGIN} is not enabled '
                            'here, so nothing could judge the image')
        # Glance puts back what the image said before, if the import fails.
        self._glance.set_properties(environ, image_id,
                                    **{declaration.ERROR: None})

    def _see_staged(self, environ: asking.Environ, image_id: str) -> None:
        """See that all data are staged: only then has the image a size.

        Glance would import what there is: while data still come in, or when
        the worker that staged them was killed.

        :raises webob.exc.HTTPConflict: if they are not
        """
        shown = self._glance.show(environ, image_id)
        if shown.status_int == 200 and (
                shown.json_body['status'] == 'uploading'
                and shown.json_body.get('size') is None):
            raise exc.HTTPConflict(
                explanation='Not all data of the image are staged. Wait until '
                            'they are; if nobody is sending any more, delete '
                            'the image and begin again')

    def _change(self, environ: asking.Environ,
                image_id: str) -> webob.Response | None:
        """Look at a PATCH: it may change what was judged, or add data."""
        changes = input_.take_json(environ, _MAX_JSON)
        reserved.check_changes(changes)
        if any(origins.changed(change) & _FIXED for change in (
                changes if isinstance(changes, list) else ())):
            shown = self._glance.show(environ, image_id)
            if shown.status_int == 200 and (
                    shown.json_body['status'] in _COMING):
                # Glance lets them change until the data are stored.
                raise exc.HTTPConflict(
                    explanation='What the data are cannot change while they '
                                'come in')
        return self._judge_locations(environ, image_id,
                                     origins.locations_in(changes))

    def _locations(self, environ: asking.Environ,
                   image_id: str) -> webob.Response | None:
        """Look at Glance's call "Add location"."""
        body = input_.take_json(environ, _MAX_JSON)
        url = body.get('url') if isinstance(body, dict) else None
        return self._judge_locations(
            environ, image_id, [url] if isinstance(url, str) else [])

    def _judge_locations(self, environ: asking.Environ, image_id: str,
                         urls: Iterable[str]) -> webob.Response | None:
        what = self._options.locations
        added = list(urls)
        if not added or what == content_conf.PASS:
            return None
        if what == content_conf.REFUSE:
            raise exc.HTTPForbidden(
                explanation='Locations are not added to images here')
        shown = self._glance.show(environ, image_id)
        if shown.status_int != 200:
            return shown
        refusal = self._glance.refusal(environ, shown.json_body)
        if refusal is not None:
            return refusal
        context = webob.Request(environ).context
        self._permitted.check(context, environ['REQUEST_METHOD'],
                              shown.json_body, added)
        declared = declaration.of_image(shown.json_body)
        for url in added:
            self._origins.judge_location(url, declared, context)
        return None

    def _task(self, environ: asking.Environ) -> webob.Response | None:
        what = self._options.import_tasks
        body = input_.take_json(environ, _MAX_JSON)
        if what == content_conf.PASS or not isinstance(body, dict) or (
                body.get('type') != 'import'):
            return None
        if what == content_conf.REFUSE:
            raise exc.HTTPForbidden(
                explanation='Images are not imported by tasks here; create '
                            'an image, and import it by web-download')
        # Whoever may not even list tasks must not have us fetch anything.
        listed = self._glance.send(asking.blank(environ, 'GET', '/v2/tasks'))
        if listed.status_int != 200:
            return listed
        given = body.get('input')
        given = given if isinstance(given, dict) else {}
        url, image = given.get('import_from'), given.get('image_properties')
        if isinstance(url, str) and isinstance(image, dict):
            self._origins.judge_url(url, declaration.of_image(
                # What Glance takes if nothing is said.
                image or {'disk_format': 'qcow2',
                          'container_format': 'bare'}))
        return None

    def _create(self, environ: asking.Environ) -> webob.Response | None:
        """Keep the checksum that is announced for the data to come."""
        body = input_.take_json(environ, _MAX_JSON)
        if isinstance(body, dict):
            request = webob.Request(environ)
            made = reserved.creation(body, getattr(request, 'context', None))
            if made != body:
                request.body = json.dumps(made).encode()
        return None

    def _show(self, environ: asking.Environ,
              image_id: str) -> webob.Response:
        """Answer for an image, without what a dead download says of it."""
        answer = webob.Request(environ).get_response(self._app)
        if answer.status_int == 200 and declaration.PROGRESS.encode() in (
                answer.body) and self._downloads.bury(environ,
                                                      answer.json_body):
            return self._glance.show(environ, image_id)
        return answer

    def _tasks_of(self, environ: asking.Environ,
                  image_id: str) -> webob.Response:
        """Answer for the tasks of an image; those of the dead have failed."""
        answer = webob.Request(environ).get_response(self._app)
        if answer.status_int == 200 and self._downloads.bury(
                environ, {'id': image_id}, answer.json_body['tasks']):
            return self._glance.send(asking.blank(
                environ, 'GET', f'/v2/images/{image_id}/tasks'))
        return answer


def factory(global_conf: Mapping[str, str], **local_conf: str,
            ) -> Callable[[asking.Application], ContentFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return lambda app: ContentFilter(app, cfg.CONF)
