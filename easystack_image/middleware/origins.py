"""Image data that do not come through Glance: locations, copies, old tasks.

Their beginning is read from where they are, and judged, before Glance is
asked to use them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import logging
from typing import Any

import glance_store
from oslo_config import cfg
import webob
from webob import exc

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import fetch
from easystack_image.content import inspection
from easystack_image.content import rules as rules_module
from easystack_image.content import urls
from easystack_image.middleware import asking
from easystack_image.middleware import locations
from easystack_image.properties import changes as changes_module

LOG = logging.getLogger(__name__)

#: What names an attribute in a change, in either form of a patch.
_POINTERS = ('path', 'add', 'replace', 'remove')


class Origins:
    """Judges image data where they are.

    :param conf: Glance's configuration
    """

    def __init__(self, app: asking.Application, conf: cfg.ConfigOpts,
                 rules: rules_module.Rules, url_rules: urls.UrlRules,
                 limits: fetch.Limits) -> None:
        self._glance = asking.Glance(app)
        self._conf = conf
        self._rules = rules
        self._url_rules = url_rules
        # A thread of Glance waits for it.
        self._limits = dataclasses.replace(limits, time_limit=min(
            limits.time_limit, limits.read_timeout))

    def judge_url(self, url: str, declared: declaration.Declaration) -> None:
        """Judge what a web server holds.

        :raises easystack_image.exceptions.ContentError: if it is refused, or
            cannot be read
        """
        self._rules.check_declared(declared)
        with fetch.open_url(url, self._url_rules, self._limits) as download:
            head = download.read(inspection.HEAD_SIZE)
            inspection.inspect(head, declared, self._rules, download.size)

    def judge_location(self, url: str, declared: declaration.Declaration,
                       context: Any) -> None:
        """Judge what a store holds, or a web server.

        :raises easystack_image.exceptions.ContentError: if it is refused, or
            cannot be read
        """
        if locations.scheme_of(url) in urls.PORTS:
            self.judge_url(url, declared)
            return
        self._rules.check_declared(declared)
        for store in self._conf.enabled_backends:
            with contextlib.suppress(glance_store.UnknownScheme,
                                     glance_store.NotFound,
                                     glance_store.BadStoreUri):
                # Glance asks for it as well, and takes nothing without: a
                # store of ours tells none of somebody else's image.
                if not glance_store.get_size_from_uri_and_backend(
                        url, store, context=context):
                    continue
                data, size = glance_store.get(url, store, context=context)
                inspection.inspect(_beginning(data), declared, self._rules,
                                   size or None)
                return
        raise exceptions.ContentRefused(
            'The location cannot be read here, so it cannot be judged')

    def judge_image(self, environ: asking.Environ,
                    image_id: str) -> webob.Response | None:
        """Judge an image that Glance has.

        :returns: Glance's answer if the user may not see it, else None
        :raises easystack_image.exceptions.ContentError: if it is refused
        """
        shown = self._glance.show(environ, image_id)
        if shown.status_int != 200:
            return shown
        image = shown.json_body
        if image['status'] != 'active':
            # Glance refuses to copy it.
            return None
        declared = declaration.of_image(image)
        self._rules.check_declared(declared)
        answer, head = self._glance.beginning(environ, image_id,
                                              inspection.HEAD_SIZE)
        if answer.status_int == 403:
            # Who may copy an image need not be allowed to download it.
            return exc.HTTPForbidden(
                explanation='You may not download the image, so it cannot be '
                            'judged for you before it is copied.')
        if answer.status_int != 200:
            raise exceptions.ContentRefused(
                'The data of the image cannot be read, so they cannot be '
                f'judged: {answer.status}')
        inspection.inspect(head, declared, self._rules, image['size'])
        return None


def changed(change: Any) -> set[str]:
    """Return what one change of a PATCH may be about.

    Which member says so depends on the media type; whoever names different
    things in them is taken to mean all.
    """
    if not isinstance(change, Mapping):
        return set()
    pointers = [change.get(member) for member in _POINTERS]
    return {changes_module.parts(pointer)[0] for pointer in pointers
            if isinstance(pointer, str)}


def locations_in(changes: Any) -> Iterator[str]:
    """Yield the locations that a PATCH would give to an image.

    One at a time, or the whole list.

    :param changes: the body of the request
    """
    for change in changes if isinstance(changes, list) else ():
        if 'locations' not in changed(change):
            continue
        value = change.get('value')
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping) and isinstance(each.get('url'),
                                                        str):
                yield each['url']


def _beginning(data: Any) -> bytes:
    """Return the first bytes of what a store hands out, and let go of it."""
    pieces, length = [], 0
    try:
        for piece in data:
            pieces.append(piece)
            length += len(piece)
            if length >= inspection.HEAD_SIZE:
                break
    finally:
        close = getattr(data, 'close', None)
        if close is not None:
            close()
    return b''.join(pieces)[:inspection.HEAD_SIZE]
