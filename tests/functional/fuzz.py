"""Requests that nobody should send, and some that anybody might."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
import urllib.parse

from hypothesis import strategies as st

from tests.functional import client

PATCH_TYPES = ('application/openstack-images-v2.0-json-patch',
               'application/openstack-images-v2.1-json-patch')

#: Names that mean something to Glance, to this package, or to SQLAlchemy.
NAMES = (
    'changes-since', 'changes_since', 'checksum', 'container_format',
    'created_at', 'deleted', 'deleted_at', 'disk_format', 'foo_max', 'foo_min',
    'get', 'hw_disk_bus', 'id', 'image_type', 'items', 'keys', 'limit',
    'locations', 'marker', 'member_status', 'members', 'metadata', 'min_disk',
    'min_ram', 'min_ram_max', 'name', 'name_min', 'os_hash_algo',
    'os_hash_value', 'os_hidden', 'os_hidden_max', 'owner', 'properties',
    'protected', 'registry', 'save', 'size', 'size_max', 'size_min', 'sort',
    'sort-dir', 'sort-key', 'sort_dir', 'sort_key', 'status', 'tag', 'tags',
    'type', 'updated_at', 'virtual_size', 'virtual_size_min', 'visibility',
    '__class__', '__dict__', '_sa_registry', '_method', 'prefer')
VALUES = (
    '', ' ', '0', '1', '-1', '5', '1e3', '1_0', '²', '9' * 25, '9' * 400,
    str(2**31), str(2**63 - 1), str(2**63), '-' + '9' * 30, 'inf', 'nan',
    'null', 'true', 'FALSE', 'asc', 'desc', 'ASC', 'name', 'name:asc',
    'name:asc,size:desc', 'created_at:', ':', 'in:', 'in:a,b', 'in:"a', 'eq:',
    'gt:1', 'neq:x', 'bogus:1', 'ubuntu:22.04', 'active', 'QUEUED',
    'in:active,Queued', 'snapshot', 'BACKUP', 'image', 'public', 'all',
    'accepted', '2026-02-25T11:28:54Z', '0001-01-01T00:00:00+14:00',
    '9999-12-31T23:59:59-14:00', 'gte:2026-02-30', 'gte:2026-02-25T11:28:54Z',
    '2026-W01', 'lt:0001-01-01T00:00:00+14:00', "'; DROP TABLE images; --",
    '<script>alert(1)</script>', '%', '\\', '"', '日本', 'é', '\x00', '😀',
    '\ud7ff', '￿', 'qcow2', 'bare', 'a' * 300)
ACCEPTS = (None, '*/*', 'application/json', 'text/html', 'text/plain',
           'text/csv', 'image/png', 'application/json;q=0, text/plain',
           'text/html, */*;q=0.1', ';;;',
           'application/vnd.openstack.images-v2')
PROPERTIES = (
    'architecture', 'checksum', 'container_format', 'created_at',
    'direct_url', 'disk_format', 'file', 'id', 'location', 'locations',
    'min_disk', 'min_ram', 'name', 'os_glance_x', 'os_hash_algo', 'os_hidden',
    'owner', 'protected', 'schema', 'self', 'size', 'status', 'stores',
    'tags', 'updated_at', 'validation_data', 'virtual_size', 'visibility')


@dataclasses.dataclass(frozen=True)
class Request:
    """One request, as it goes over the wire."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def accept(self) -> str:
        """What kind of answer is asked for."""
        return dict(self.headers).get('Accept', '*/*')


def _texts(**limits: Any) -> st.SearchStrategy[str]:
    return st.text(**limits)


_words = st.one_of(st.sampled_from(VALUES), st.sampled_from(NAMES),
                   st.text(max_size=12))
#: Bytes that are in no encoding at all, percent-encoded or not.
_raw = st.one_of(
    _words.map(lambda text: urllib.parse.quote(text.encode(
        'utf-8', 'surrogatepass'))),
    st.binary(max_size=6).map(urllib.parse.quote),
    st.sampled_from(['%', '%zz', '%C3', '%ED%A0%80', '%00', ';', '+', '==',
                     '%F0%9F%98%80', '%0A', '%0d%0aX:%20y']))
_names = st.one_of(st.sampled_from(NAMES).map(urllib.parse.quote), _raw)
queries = st.lists(st.tuples(_names, _raw), max_size=5).map(
    lambda pairs: '&'.join(f'{name}={value}' for name, value in pairs)[:2000])

_header_values = st.one_of(
    _words.map(lambda text: ''.join(
        letter for letter in text if '\x20' <= letter <= '\xff'
        and letter != '\x7f')),
    st.sampled_from(['bytes=0-', 'bytes=-1', 'req-1', 'x' * 200, 'a b',
                     'chunked;q=1', 'application/json', '[', 'de, *;q=x']))
_headers = st.dictionaries(
    st.sampled_from([
        'X-OpenStack-Request-ID', 'Range', 'Content-Range', 'If-None-Match',
        # Not X-Forwarded-Proto: at a byte that is not ASCII, uWSGI 2.0.30
        # itself dies (signal 11), before any Python is run.
        'Accept-Language', 'Forwarded', 'X-Forwarded-For', 'X-Forwarded-Host',
        'X-Image-Meta-Store', 'X-HTTP-Method-Override',
        'X-Openstack-Image-Size', 'X-Service-Token', 'Cookie', 'Origin']),
    _header_values, max_size=2)
_accepts = st.sampled_from(ACCEPTS)

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(),
    st.sampled_from([2**31, 2**63, 2**64, -1, 1e308]), _words,
    st.sampled_from(['\ud800', 'a\x00b', 'x' * 70000]))
json_values = st.recursive(
    _scalars, lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(_words, inner, max_size=3)), max_leaves=6)
_property_names = st.one_of(st.sampled_from(PROPERTIES), _words)
_locations = st.lists(st.fixed_dictionaries(
    {}, optional={'url': _words, 'metadata': json_values,
                  'validation_data': json_values}), max_size=2)
_images = st.dictionaries(_property_names, st.one_of(
    json_values, _words, _locations), max_size=5)
_pointers = st.one_of(
    st.sampled_from(PROPERTIES).map(lambda name: f'/{name}'),
    st.sampled_from(['/', '//', '/a/b', '/locations/0', '/locations/-',
                     '/locations/x', '/tags/0', '/~', '/~2', '/a~1b', ' /a',
                     '/ ', '']),
    _words, json_values)
_operations = st.one_of(
    st.fixed_dictionaries(
        {'op': st.sampled_from(['add', 'replace', 'remove', 'test', 'move']),
         'path': _pointers},
        optional={'value': st.one_of(json_values, _locations)}),
    st.fixed_dictionaries({'add': _pointers, 'value': json_values}),
    st.fixed_dictionaries({'replace': _pointers, 'value': json_values}),
    json_values)
_patches = st.one_of(st.lists(_operations, max_size=3), json_values)
_imports = st.one_of(st.fixed_dictionaries(
    {'method': st.one_of(json_values, st.fixed_dictionaries(
        {'name': st.one_of(st.sampled_from(
            ['glance-direct', 'copy-image', 'bogus']), json_values)},
        optional={'uri': json_values}))},
    optional={'stores': json_values, 'all_stores': json_values,
              'all_stores_must_succeed': json_values}), json_values)


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bodies(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        values.map(_dump), values.map(_dump), values.map(_dump),
        st.binary(max_size=20),
        st.sampled_from([b'[' * 3000, b'{"a":' * 500, b'\xff', b'NaN',
                         b'{"name": NaN}', b'9' * 5000, b'"', b'{} {}']))


@st.composite
def requests(draw: st.DrawFn, image_ids: tuple[str, ...]) -> Request:
    """Draw a request: a list, a new image, a change, or something else.

    :param image_ids: of images that there are
    """
    kind = draw(st.sampled_from(
        ['list', 'list', 'create', 'patch', 'patch', 'other']))
    headers = draw(_headers)
    accept = draw(_accepts)
    if accept is not None:
        headers['Accept'] = accept
    image_id = draw(st.sampled_from(image_ids))
    if kind == 'list':
        path, method, body = '/v2/images', 'GET', None
    elif kind == 'create':
        path, method = '/v2/images', 'POST'
        body = draw(_bodies(_images))
    elif kind == 'patch':
        path, method = f'/v2/images/{image_id}', 'PATCH'
        body = draw(_bodies(_patches))
        headers['Content-Type'] = draw(st.sampled_from(
            [*PATCH_TYPES, PATCH_TYPES[1], 'application/json']))
    else:
        path, method, body = draw(_others(image_id))
    query = draw(queries) if kind == 'list' or draw(st.booleans()) else ''
    return Request(method, f'{path}?{query}' if query else path,
                   tuple(headers.items()), body)


@st.composite
def _others(draw: st.DrawFn, image_id: str,
            ) -> tuple[str, str, bytes | None]:
    name = draw(_raw)
    path = draw(st.sampled_from([
        f'/v2/images/{name}', f'/v2/images/{image_id}/tags/{name}',
        f'/v2/images/{image_id}/members', f'/v2/images/{image_id}/members/'
        f'{name}', f'/v2/images/{image_id}/import', f'/v2/{name}',
        f'/v2/images/{image_id}/locations', f'/v2/images/{image_id}/{name}',
        f'/{name}', '/v2/schemas/image', '/versions', '/v2/info/stores',
        f'/v2/images/{image_id}/tasks', f'/v2/stores/{name}/{image_id}']))
    method = draw(st.sampled_from(['GET', 'HEAD', 'POST', 'PUT', 'PATCH']))
    if method in ('GET', 'HEAD'):
        return path, method, None
    return path, method, draw(_bodies(st.one_of(_imports, _images)))


#: Of the images that are there before any request is sent.
SEEDS = ('fuzz-queued', 'fuzz-active')


def make_images(images: client.Images) -> tuple[str, ...]:
    """Create the images that requests are about, and return their ids."""
    queued = images.create(name=SEEDS[0])
    active = images.upload(b'data')
    return queued, active, '00000000-0000-0000-0000-000000000000'
