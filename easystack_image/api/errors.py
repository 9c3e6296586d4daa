"""The one form of every error: code, title and message in an envelope.

``{"error": {"message": "…", "code": 404, "title": "Not Found"}}``, as the
errors of Keystone are.  Clients that know OpenStack's services find the
message there.
"""

from __future__ import annotations

import html
import http
import json
import re
from typing import Any

#: The words of Keystone's middleware, whoever refused.
_UNAUTHORIZED = 'The request you have made requires authentication.'
_INTERNAL = ('The server has either erred or is incapable of performing the '
             'requested operation.')

# None is looked for beyond where another one begins: a message may be what a
# client sent, megabytes of it, and the time must not grow with their square.
_MARKUP = re.compile(r'<!--(?:(?!<!--).)*?-->|</?[A-Za-z][^<>]*>', re.DOTALL)
_HEAD = re.compile(r'<(head|h1)\b(?:(?!<\1\b).)*?</\1>',
                   re.DOTALL | re.IGNORECASE)


def title(code: int) -> str:
    """Return what a status code is called (RFC 9110)."""
    try:
        return http.HTTPStatus(code).phrase
    except ValueError:
        return http.HTTPStatus(code // 100 * 100).phrase


def envelope(code: int, message: str) -> bytes:
    """Return the body of an answer.

    :param code: the status code, 400 to 599
    :param message: for the user; without one, there are words for each code
    """
    if code == http.HTTPStatus.UNAUTHORIZED:
        message = _UNAUTHORIZED
    error = {'message': message or default_message(code), 'code': code,
             'title': title(code)}
    return json.dumps({'error': error}, ensure_ascii=False).encode(
        'utf-8', 'backslashreplace')


def default_message(code: int) -> str:
    """Return what to say where nobody said anything."""
    if code == http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return _INTERNAL
    try:
        status = http.HTTPStatus(code)
    except ValueError:
        return title(code)
    return f'{status.description or status.phrase}.'


def message_of(content_type: str, body: bytes) -> str:
    """Return what an error says, in plain text.

    :param content_type: of the answer, '' if it has none
    :param body: as WebOb, Keystone's middleware or anybody else wrote it
    """
    text = body.decode('utf-8', 'replace')
    kind = content_type.partition(';')[0].strip().lower()
    if kind == 'application/json':
        return plain(_json_message(text))
    if kind == 'text/html':
        return plain(html.unescape(_MARKUP.sub('', _HEAD.sub('', text))))
    if kind == 'text/plain':
        # WebOb begins with the status in a line of its own.
        return plain(re.sub(r'\A[45]\d\d [^\n]*\n\n', '', text))
    return ''


def _json_message(text: str) -> str:
    try:
        record: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ''
    if isinstance(record, dict) and isinstance(record.get('error'), dict):
        record = record['error']
    message = record.get('message') if isinstance(record, dict) else None
    return message if isinstance(message, str) else ''


def plain(text: str) -> str:
    """Return a text without markup and needless white space."""
    lines = (line.strip() for line in _MARKUP.sub('', text).splitlines())
    return '\n'.join(filter(None, lines))
