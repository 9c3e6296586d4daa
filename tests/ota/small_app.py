"""A WSGI application that is next to nothing of Glance, for small releases.

It is put into their wheels, with what a release does wrong before it:
``VERSION``, and perhaps ``STATUS``, ``LOSES``, or, for users only, ``SLOW``
(seconds), ``FAILS``, ``HANGS`` (they are never answered) and ``STUCK`` (the
process does nothing any more, as if an extension kept Python's lock).  It
keeps images in memory, in the process that answers on the private socket.
"""

import ctypes
import functools
import hashlib
import json
import os
import pathlib
import threading
import time
import uuid

from easystack_image.ota.serving import counting
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout

_SETTINGS = {'VERSION': '0', 'SLOW': 0.0, 'STATUS': '200 OK', 'LOSES': False,
             'FAILS': False, 'HANGS': False, 'STUCK': False}
_SETTINGS.update({name: value for name, value in globals().items()
                  if name in _SETTINGS})
_images = {}
_counters = []
_lock = threading.Lock()


def _read(environ):
    """Return the body; as long as it takes."""
    size, data = 0, b''
    read = functools.partial(environ['wsgi.input'].read, 1 << 16)
    if environ.get('HTTP_TRANSFER_ENCODING') == 'chunked':
        import uwsgi  # Exists only in a process of uWSGI.
        read = uwsgi.chunked_read
    while part := read():
        size += len(part)
        data = data + part if len(data) < 1 << 22 else data
    return size, data


def application(environ, start_response):
    """Answer a request."""
    size, data = _read(environ)
    method, path = environ['REQUEST_METHOD'], environ['PATH_INFO']
    if path.startswith('/v2/images'):
        status, kind, body = _image(method, path[len('/v2/images'):], data)
    else:
        status, kind, body = _SETTINGS['STATUS'], 'text/plain', b'%d' % size
        # Only users give a time: neither a canary nor what warms up does.
        if environ['QUERY_STRING']:
            status = _user(float(environ['QUERY_STRING'])) or status
    start_response(status, [
        ('Content-Type', kind), ('Content-Length', str(len(body))),
        ('X-Easystack-Image-Release', _SETTINGS['VERSION']),
        ('X-Instance', os.path.basename(
            os.environ['EASYSTACK_OTA_INSTANCE']))])
    return [body]


def _user(seconds):
    """Do what a user waits for; count it as the filter of Glance's does."""
    counter, begin = _counter(), time.perf_counter()
    ticket = counter.begin(counts.Kind.GET)
    time.sleep(seconds + _SETTINGS['SLOW'])
    while _SETTINGS['HANGS']:
        time.sleep(1)
    while _SETTINGS['STUCK']:
        # Without letting any other thread run.
        ctypes.PyDLL(None).pause()
    counter.answered(counts.Kind.GET, time.perf_counter() - begin, ticket)
    counter.end(counts.Kind.GET, counts.Result.FAILED if _SETTINGS['FAILS']
                else counts.Result.SUCCESS, ticket)
    return '500 Internal Server Error' if _SETTINGS['FAILS'] else ''


def _counter():
    import uwsgi  # Exists only in a process of uWSGI.
    with _lock:
        if not _counters:
            place = layout.Place(pathlib.Path(
                os.environ[layout.DIRECTORY_VARIABLE]))
            _counters.append(counting.open_counter(place, uwsgi.worker_id()))
    return _counters[0]


def _image(method, path, data):
    """Answer as Glance does, in what the canary needs."""
    image_id, _, rest = path.strip('/').partition('/')
    if method == 'POST' and not image_id:
        image = {**json.loads(data), 'id': str(uuid.uuid4()),
                 'owner': 'somebody', 'status': 'queued', 'size': None}
        _images[image['id']] = [image, b'']
        return _json('201 Created', image)
    if method == 'GET' and not image_id:
        return _json('200 OK', {'images': [
            image for image, _ in _images.values()]})
    if image_id not in _images:
        return _json('404 Not Found', {})
    image, content = _images[image_id]
    if method == 'PUT':
        image.update(status='active', size=len(data), os_hash_algo='sha512',
                     os_hash_value=hashlib.sha512(data).hexdigest())
        _images[image_id][1] = data[::-1] if _SETTINGS['LOSES'] else data
        return '204 No Content', 'text/plain', b''
    if method == 'DELETE':
        del _images[image_id]
        return '204 No Content', 'text/plain', b''
    if rest == 'file':
        return '200 OK', 'application/octet-stream', content
    return _json('200 OK', image)


def _json(status, record):
    return status, 'application/json', json.dumps(record).encode()
