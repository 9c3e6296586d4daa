"""Images from a URL: what becomes of an import by web-download.

Glance's own web-download connects to wherever a name leads at that moment,
has no time limits, and inspects after it has stored; nothing of it can be
replaced from outside.  So the filter does the download itself, and gives
Glance what it gets by two of Glance's own requests, for the same user: the
data are staged, as if the client had sent them, and then imported
(glance-direct) to the stores that the client named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import datetime
import logging
import threading
import time
from typing import Any

import glance_store
import webob
from webob import exc

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import fetch
from easystack_image.content import rules as rules_module
from easystack_image.content import stream as stream_module
from easystack_image.content import urls
from easystack_image.middleware import asking
from easystack_image.middleware import bodies
from easystack_image.middleware import incoming
from easystack_image.middleware import records

LOG = logging.getLogger(__name__)

#: How many may wait for their turn, per process.
_WAITING = 100
#: How often the progress is written down, in seconds.
_INTERVAL = 2.0
#: How often one that waits for its turn says so, in seconds.
_BEAT = 60.0
#: What else than the server may hold one up, in seconds.
_PATIENCE = 300


class Downloads:
    """Downloads images in the background.

    :param app: what stands behind the filter
    :param at_once: how many at the same time
    """

    def __init__(self, app: asking.Application, rules: rules_module.Rules,
                 url_rules: urls.UrlRules, limits: fetch.Limits,
                 at_once: int) -> None:
        self._glance = asking.Glance(app)
        self._rules = rules
        self._url_rules = url_rules
        self._limits = limits
        #: For how long one that lives may say nothing, in seconds.
        self._silence = _PATIENCE + (limits.redirects + 1) * (
            limits.connect_timeout + limits.read_timeout)
        self._turns = threading.Semaphore(at_once)
        self._places = threading.Semaphore(at_once + _WAITING)

    def check(self, url: str) -> None:
        """Check a URL, and the addresses that its host has now.

        :raises easystack_image.exceptions.ContentError: if it must not be
            fetched, or its host is unknown
        """
        fetch.permitted(self._url_rules.check(url), self._url_rules)

    def bury(self, environ: asking.Environ, image: Mapping[str, Any],
             tasks: Iterable[Mapping[str, Any]] = ()) -> bool:
        """Record the failure of downloads whose process ended.

        Nobody's request fails because this does; the log tells of it.

        :param image: as Glance shows it, as far as it was asked
        :param tasks: of the image, likewise
        :returns: whether there were any
        """
        # Whoever only looks should not cause much: Glance takes its tasks
        # from its database in a transaction that writes.
        suspects = [*([image] if declaration.PROGRESS in image else []),
                    *filter(records.is_unfinished, tasks)]
        if not any(self._is_silent(each) for each in suspects):
            return False
        image_id = image['id']
        try:
            return records.bury(webob.Request(environ).context, image_id,
                                self._silence)
        except Exception as error:
            LOG.warning('Image %(image)s: the end of a download could not be '
                        'recorded: %(error)s',
                        {'image': image_id, 'error': error})
            return False

    def _is_silent(self, record: Mapping[str, Any]) -> bool:
        return records.is_silent(datetime.datetime.fromisoformat(
            record['updated_at']), self._silence)

    def start(self, environ: asking.Environ, image_id: str,
              body: dict[str, Any]) -> webob.Response:
        """Answer a request for an import, and begin.

        :param body: of the request
        :raises easystack_image.exceptions.ContentError: if the URL must not
            be fetched, or no image of this kind is let in
        :raises webob.exc.HTTPError: as Glance would refuse the request
        """
        shown = self._glance.show(environ, image_id)
        if shown.status_int != 200:
            return shown
        image = shown.json_body
        self.bury(environ, image)
        _check_state(image)
        self._rules.check_declared(declaration.of_image(image))
        # Whoever may not give it data learns nothing of servers either.
        refusal = self._glance.refusal(environ, image)
        if refusal is not None:
            return refusal
        self.check(body['method']['uri'])
        try:
            stores = records.stores_of(environ, body)
        except glance_store.UnknownScheme as error:
            raise exc.HTTPConflict(explanation=str(error)) from error
        if not self._places.acquire(blocking=False):
            raise exc.HTTPServiceUnavailable(
                explanation='Too many downloads wait already; try again '
                            'later')
        try:
            record = records.Record(webob.Request(environ).context, image_id,
                                    body, stores)
        except BaseException:
            self._places.release()
            raise
        # A daemon, so that a long download holds up no restart for long.
        threading.Thread(target=self._run,
                         args=(dict(environ), image_id, body, record),
                         name=f'download-{image_id}', daemon=True).start()
        return webob.Response(status=202)

    def _run(self, environ: asking.Environ, image_id: str,
             body: dict[str, Any], record: records.Record) -> None:
        """Do a download, and record what became of it."""
        error = 'The download failed; the administrator finds in the log why'
        try:
            while not self._turns.acquire(timeout=_BEAT):
                record.tell(None)
            try:
                record.begin()
                self._bring(environ, image_id, body, record)
            finally:
                self._turns.release()
            error = ''
        except exceptions.ContentError as refusal:
            error = str(refusal)
            LOG.warning('Image %(image)s: download refused or failed: '
                        '%(error)s', {'image': image_id, 'error': error})
        except Exception:
            LOG.exception('Image %s: download failed', image_id)
        finally:
            self._places.release()
            if error:
                record.fail(error)

    def _bring(self, environ: asking.Environ, image_id: str,
               body: dict[str, Any], record: records.Record) -> None:
        def declares() -> declaration.Declaration:
            return declaration.of_image(
                self._glance.show(environ, image_id).json_body)

        with fetch.open_url(body['method']['uri'], self._url_rules,
                            self._limits) as download:
            stream = stream_module.Stream(download, self._rules,
                                          download.size)
            stream.look()
            declared = declares()
            stream.judge(declared)
            judged = incoming.Body(stream, declares, declared)
            self._stage(environ, image_id, download.size, judged, Reported(
                judged, download, record.tell))
        record.succeed()
        answer = self._glance.post(
            environ, f'/v2/images/{image_id}/import',
            {**body, 'method': {'name': 'glance-direct'}})
        if answer.status_int != 202:
            LOG.error('Image %(image)s is staged, but its import is refused: '
                      '%(status)s %(text)s',
                      {'image': image_id, 'status': answer.status,
                       'text': answer.text})
            raise exceptions.DownloadFailed(
                'The image was downloaded and staged, but its import by '
                f'glance-direct was refused: {answer.status}')

    def _stage(self, environ: asking.Environ, image_id: str,
               size: int | None, judged: incoming.Body,
               source: Reported) -> None:
        """Let Glance stage what is downloaded.

        :param size: in bytes, None if it is not known
        :param source: from which the judged body is read
        """
        request = asking.blank(environ, 'PUT',
                               f'/v2/images/{image_id}/stage')
        request.content_type = 'application/octet-stream'
        if size is None:
            request.environ.pop('CONTENT_LENGTH', None)
            request.environ['HTTP_TRANSFER_ENCODING'] = 'identity'
        else:
            request.environ['CONTENT_LENGTH'] = str(size)
        bodies.replace(request.environ, source)
        answer = self._glance.send(request)
        if judged.error:
            raise judged.error
        if answer.status_int != 204:
            raise exceptions.DownloadFailed(
                f'Glance refuses to stage the image: {answer.status}')


class Reported:
    """A body that tells how much of it was read, in percent.

    :param body: what is read
    :param download: where it comes from
    :param tell: called with whole percent, every few seconds; with None if
        nobody knows how much there is
    """

    def __init__(self, body: incoming.Body, download: fetch.Download,
                 tell: Callable[[int | None], None]) -> None:
        self._body = body
        self._download = download
        self._tell = tell
        self._due = time.monotonic() + _INTERVAL

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, as the body does."""
        data = self._body.read(size)
        if time.monotonic() >= self._due:
            whole = self._download.size
            self._tell(self._download.received * 100 // whole
                       if whole else None)
            self._due = time.monotonic() + _INTERVAL
        return data


def _check_state(image: dict[str, Any]) -> None:
    """See that an image may be imported, as Glance's ``import_image`` does."""
    if image['status'] != 'queued':
        raise exc.HTTPConflict(
            explanation="Image needs to be in 'queued' state to use "
                        "'web-download' method")
    for name in ('container_format', 'disk_format'):
        if not image.get(name):
            raise exc.HTTPConflict(
                explanation=f"'{name}' needs to be set before import")
