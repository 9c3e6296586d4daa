"""Telling others: syslog always, and a URL if one is configured.

A deployer who wants more (mail, a change in a monitoring system) puts an
executable at the same points.
"""

from __future__ import annotations

import http.client
import json
import socket
import syslog
from urllib import error as errors
from urllib import request

from easystack_image.ota.hooks import base

_IDENT = 'easystack-image-ota'
#: Seconds to wait for each answer of the network.
_PATIENCE = 10.0
#: What each point means to people.
_EVENTS = {
    'before-preflight': 'begun', 'after-hand-over': 'serving',
    'after-commit': 'committed', 'after-rollback': 'rolled-back'}


class Notification(base.Hook):
    """Tell syslog, and a URL, that a release begins, serves, ends."""

    name = 'notification'
    points = tuple(_EVENTS)
    timeout = 30.0
    required = False

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        event = _EVENTS[context.point]
        origin = f' from {context.origin}' if context.origin else ''
        text = (f'{context.kind}{origin} to {context.target}: {event}'
                + (f' ({context.reason})' if context.reason else ''))
        syslog.openlog(_IDENT, facility=syslog.LOG_DAEMON)
        syslog.syslog(syslog.LOG_NOTICE, text)
        if not context.notify_url:
            return None
        return _post(context.notify_url, {
            'event': event, 'text': f'{_host()}: {text}', 'host': _host(),
            'kind': context.kind, 'origin': context.origin,
            'target': context.target, 'attempt': context.attempt,
            'reason': context.reason})


def _post(url: str, body: dict[str, object]) -> str:
    """Send JSON to a URL; return how it went, without the URL."""
    asked = request.Request(  # noqa: S310  # the settings allow http only
        url, json.dumps(body).encode(),
        {'Content-Type': 'application/json'}, method='POST')
    try:
        with request.urlopen(asked, timeout=_PATIENCE) as answer:  # noqa: S310
            return f'notified ({answer.status})'
    except errors.HTTPError as error:
        return f'the notification was answered with {error.code}'
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f'nobody was notified: {error}'


def _host() -> str:
    return socket.gethostname()
