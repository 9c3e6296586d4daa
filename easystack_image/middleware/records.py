"""What Glance records of an import, for downloads that it does not do itself.

Clients follow an import by the image's tasks (``GET
/v2/images/{image_id}/tasks``) and its property ``os_glance_failed_import``.
Neither can be written by the API; so they are written as Glance's own import
does it, through ``glance.gateway``, which is the same in Glance 32 and 33.
It is imported when the first download begins: the filter is loaded by Glance
only, and everything else in it works without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import datetime
import functools
import logging
from typing import Any

import glance_store

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.middleware import asking

LOG = logging.getLogger(__name__)

#: The method of an import that downloads.
_METHOD = 'web-download'
#: The states of tasks that are to come to an end.
_UNFINISHED = ('pending', 'processing')

_FAILED = 'os_glance_failed_import'
_EPITAPH = 'The download ended with the process that did it. '
_STAGED_BY = 'os_glance_stage_host'
_STAGING = 'os_glance_staging_store'


class Record:
    """The task of one download, and what becomes of the image.

    :param context: of the request for the import
    :param body: of that request
    :param stores: that the image is to go to
    :raises easystack_image.exceptions.ConfigurationError: outside of Glance
    """

    def __init__(self, context: Any, image_id: str, body: dict[str, Any],
                 stores: Sequence[str]) -> None:
        gateway = _gateway()
        self._image_id = image_id
        self._is_staged = False
        self._stores = stores
        self._images = gateway.get_repo(context)
        self._tasks = gateway.get_task_repo(context)
        self._task = gateway.get_task_factory(context).new_task(
            task_type='api_image_import', owner=context.owner,
            image_id=image_id, user_id=context.user_id,
            request_id=context.request_id,
            task_input={'image_id': image_id, 'import_req': body,
                        'backend': list(stores)})
        self._tasks.add(self._task)
        image = self._images.get(image_id)
        for name in (_FAILED, declaration.ERROR):
            image.extra_properties.pop(name, None)
        image.extra_properties[declaration.PROGRESS] = '0'
        self._images.save(image)

    def begin(self) -> None:
        """Record that it is this download's turn."""
        self._task.begin_processing()
        self._tasks.save(self._task)

    def tell(self, percent: int | None) -> None:
        """Record how far it is, and that somebody is at it.

        A database that is busy just now is no reason to stop.

        :param percent: None if it is not known
        """
        if percent is not None:
            self._task.message = f'Downloaded {percent} %'
        try:
            self._tasks.save(self._task)
            image = self._images.get(self._image_id)
            image.extra_properties[declaration.PROGRESS] = str(percent or 0)
            self._images.save(image)
        except Exception as error:
            LOG.warning('Image %(image)s: progress not recorded: %(error)s',
                        {'image': self._image_id, 'error': error})

    def succeed(self) -> None:
        """Record that all data are staged; Glance's own task follows.

        Nothing is written from then on: on SQLite, that task would end
        unseen if it found the database locked.
        """
        image = self._images.get(self._image_id)
        image.extra_properties.pop(declaration.PROGRESS, None)
        self._images.save(image)
        self._is_staged = True
        self._task.succeed({'image_id': self._image_id})
        self._tasks.save(self._task)

    def fail(self, reason: str) -> None:
        """Record why there will be no image, and make it ready again.

        It may be gone by now; then only the task remembers.
        """
        if not self._is_staged:
            self._task.fail(reason)
            self._tasks.save(self._task)
        try:
            image = self._images.get(self._image_id)
            if self._is_staged and image.status == 'uploading':
                # Nobody wants it; but what somebody else stages, he does.
                _unstage(self._image_id)
                image.status = 'queued'
                image.size = None
                image.extra_properties.pop(_STAGED_BY, None)
            image.extra_properties.pop(declaration.PROGRESS, None)
            image.extra_properties[declaration.ERROR] = reason
            image.extra_properties[_FAILED] = ','.join(sorted(self._stores))
            self._images.save(image)
        except Exception as error:
            LOG.warning('Image %(image)s: failure not recorded: %(error)s',
                        {'image': self._image_id, 'error': error})


def bury(context: Any, image_id: str, silence: float) -> bool:
    """Record the failure of downloads that ended with their process.

    Each writes to its task and to the image, as long as it lives.

    :param context: of whoever asks about the image; he need not be one who
        may change it
    :param silence: for how long one that lives may write nothing, in seconds
    :returns: whether there were any
    """
    gateway = _gateway()
    context = context.elevated()
    images, tasks = gateway.get_repo(context), gateway.get_task_repo(context)
    image = images.get(image_id)
    downloads = [tasks.get(task['id']) for task
                 in gateway.db_api.tasks_get_by_image(context, image_id)
                 if _is_download(task)]
    dead = [task for task in downloads if task.status in _UNFINISHED
            and is_silent(task.updated_at, silence)]
    is_stale = declaration.PROGRESS in image.extra_properties and all(
        is_silent(each.updated_at, silence) for each in (image, *downloads))
    reason = _EPITAPH + ('Delete the image and begin again'
                         if image.status == 'uploading' else 'Begin again')
    for task in dead:
        LOG.warning('Image %(image)s: %(reason)s',
                    {'image': image_id, 'reason': reason})
        task.fail(reason)
        tasks.save(task)
    if is_stale:
        del image.extra_properties[declaration.PROGRESS]
        if image.status in ('queued', 'uploading'):
            image.extra_properties[declaration.ERROR] = reason
        images.save(image)
    return is_stale or bool(dead)


def is_silent(written: datetime.datetime, silence: float) -> bool:
    """Tell whether nothing was written for some time.

    :param written: when it was written last, in UTC, whether it says so or
        not (Glance's tasks do not)
    :param silence: in seconds
    """
    return datetime.datetime.now(datetime.UTC) - written.replace(
        tzinfo=datetime.UTC) > datetime.timedelta(seconds=silence)


def is_unfinished(task: Mapping[str, Any]) -> bool:
    """Tell whether a task is a download that has not come to its end.

    :param task: as Glance shows it
    """
    return task['status'] in _UNFINISHED and _is_download(task)


def _is_download(task: Mapping[str, Any]) -> bool:
    asked = (task.get('input') or {}).get('import_req') or {}
    return bool((asked.get('method') or {}).get('name') == _METHOD)


def _unstage(image_id: str) -> None:
    """Delete staged data, as Glance does when an import is over."""
    from glance.common import store_utils
    separator, directory = store_utils.get_dir_separator()
    try:
        glance_store.delete(separator.join((directory, image_id)), _STAGING)
    except glance_store.NotFound:
        LOG.info('Image %s: its staged data are gone already', image_id)


def stores_of(environ: asking.Environ, body: dict[str, Any]) -> list[str]:
    """Return the stores that an import names, or the default one.

    :raises glance_store.UnknownScheme: if there is no such store
    :raises webob.exc.HTTPBadRequest: if it names them twice
    """
    _gateway()
    from glance.common import utils
    from glance.common import wsgi
    stores: list[str] = utils.get_stores_from_request(
        wsgi.Request(environ), body)
    return stores


@functools.cache
def _gateway() -> Any:
    """Return Glance's way to its database, with its policy and notices."""
    try:
        from glance import gateway
    except ImportError as error:
        raise exceptions.ConfigurationError(
            'web_download = gate works within Glance only, which is not '
            'installed here') from error
    return gateway.Gateway()
