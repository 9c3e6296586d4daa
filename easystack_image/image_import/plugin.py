"""``easystack_content``: judges staged image data before they are stored.

A plugin of Glance's import (``glance.image_import.plugins``).  Glance runs it
for glance-direct, web-download and glance-download, before the first store
gets any data, also when several get them at once.  Let it be the last one in
``image_import_plugins``, so that it sees what the others have made.

Whatever fails from here on, the image ends ``queued`` again, without staged
data and ready for the next attempt; vanilla Glance leaves it ``importing``.
"""

from __future__ import annotations

import logging
from typing import Any

import glance_store
from oslo_config import cfg
from taskflow import task
from taskflow.patterns import linear_flow
from taskflow.types import failure

from easystack_image import exceptions
from easystack_image.content import configured
from easystack_image.content import declaration
from easystack_image.content import staged

LOG = logging.getLogger(__name__)

_DIRECT = 'glance-direct'
_FILE = 'file://'
_STAGING = 'os_glance_staging_store'
_LATER = ('The image could not be stored; try again, or ask the '
          'administrator, who finds the reason in the log')


class CheckContent(task.Task):  # type: ignore[misc]
    """Judges the staged data of one image.

    :param flow: what Glance tells each plugin
    :param conf: Glance's configuration
    """

    def __init__(self, flow: dict[str, Any], conf: cfg.ConfigOpts) -> None:
        super().__init__(
            name=f'{flow["task_type"]}-EasystackContent-{flow["task_id"]}')
        self._image_id: str = flow['image_id']
        self._method: str = flow['import_req']['method']['name']
        self._wrapper = flow['action_wrapper']
        # The administrator's, if Glance has one: it sees every image.
        self._images = flow.get('admin_repo') or flow['image_repo']
        self._stores = [store for store in flow.get('backend') or ()
                        if store]
        self._rules = configured.image_rules(conf)
        #: The checksum that was announced, as the image has it.
        self._announced = ''

    def execute(self, file_path: str, **kwargs: Any) -> None:
        """Judge the data.

        :param file_path: the URL of the staged file
        :raises glance.common.exception.UploadException: if they are refused;
            its text becomes the message of the task
        """
        del kwargs
        try:
            findings = staged.check(file_path.removeprefix(_FILE),
                                    self._declared(), self._rules)
        except exceptions.ContentError as error:
            LOG.warning('Image %(image)s: import refused: %(error)s',
                        {'image': self._image_id, 'error': error})
            raise _upload_error(str(error)) from error
        with self._wrapper as action:
            action.pop_extra_property(declaration.ERROR)
            # Images of servers and volumes would have it as well.
            action.pop_extra_property(declaration.EXPECTED_HASH)
            if findings.virtual_size:
                action.set_image_attribute(
                    virtual_size=findings.virtual_size)

    def _declared(self) -> declaration.Declaration:
        image = self._images.get(self._image_id)
        self._announced = image.extra_properties.get(
            declaration.EXPECTED_HASH, '')
        return declaration.of_image(dict(image.extra_properties) | {
            'disk_format': image.disk_format,
            'container_format': image.container_format,
            'min_disk': image.min_disk})

    def revert(self, result: Any = None, file_path: str = '',
               **kwargs: Any) -> None:
        """Make the image ready for another attempt.

        It is called if the data were refused, and if anything failed later.
        """
        del kwargs
        ours = isinstance(result, failure.Failure)
        reason = result.exception_str if ours else _LATER
        # Where Glance has downloaded, it does so, deletes what it got, and
        # stumbles over an image that is queued already; then the image would
        # stay locked (glance/async_/flows/_internal_plugins/base_download.py).
        again = {'status': 'queued'} if self._method == _DIRECT else {}
        with self._wrapper as action:
            action.set_image_attribute(size=None, virtual_size=None, **again)
            action.remove_importing_stores(self._stores)
            if ours:
                action.add_failed_stores(self._stores)
            # For the next attempt.
            kept = {declaration.EXPECTED_HASH: self._announced
                    } if self._announced else {}
            action.set_image_extra_properties(
                {declaration.ERROR: reason} | kept)
        if self._method == _DIRECT and file_path:
            try:
                glance_store.delete(file_path, _STAGING)
            except glance_store.NotFound:
                LOG.info('Image %s: its staged data are gone already',
                         self._image_id)


def _upload_error(reason: str) -> Exception:
    """Return the error whose text Glance shows to the user of a task.

    It is Glance's own: of all others the task says "Internal Error"
    (``glance/async_/taskflow_executor.py``).
    """
    try:
        from glance.common import exception
    except ImportError as error:
        raise exceptions.ConfigurationError(
            'The import plugin easystack_content works within Glance only, '
            'which is not installed here') from error
    made: Exception = exception.UploadException(reason)
    return made


def get_flow(**kwargs: Any) -> linear_flow.Flow:
    """Return the plugin's part of an import, as Glance wants it."""
    return linear_flow.Flow(kwargs['task_type']).add(
        CheckContent(kwargs, cfg.CONF))
