"""Lists of images as CSV, from a real Glance."""

from __future__ import annotations

from collections.abc import Iterator
import csv
import dataclasses
import datetime
import http.client
import io
from typing import Any, ClassVar
import urllib.parse
import uuid

import psutil
import requests

from easystack_image.api import export
from tests.bench import meter
from tests.functional import base
from tests.functional import noauth
from tests.functional import records
from tests.functional import server

CSV = {'Accept': 'text/csv'}
MEMBER = {'X-Roles': 'member,reader'}
STRANGER = MEMBER | {'X-Project-Id': 'c0ffee00000000000000000000000009'}
COUNT = 5000
#: Resident memory that an export may take, in MiB.
MEMORY = 30
_PROTECTIONS = """\
[^secret$]
create = admin
read = admin
update = admin
delete = admin
[.*]
create = @
read = @
update = @
delete = @
"""
ODD_TAGS = ['a,b', 'say "hi"', 'two\nlines', '\u955c\u50cf', '=1+1']


def parse(data: bytes) -> list[dict[str, str]]:
    """Return the rows of a file."""
    text = data.decode('utf-8-sig')
    return list(csv.DictReader(io.StringIO(text, newline=''), strict=True))


class ExportCase(base.SharedGlanceCase):

    def ask(self, query: str = '', **headers: str) -> requests.Response:
        return self.images.request('GET', f'/images{query}',
                                   headers=CSV | headers)

    def rows(self, query: str = '', **headers: str) -> list[dict[str, str]]:
        answer = self.ask(query, **headers)
        self.assertEqual(200, answer.status_code, answer.text)
        return parse(answer.content)

    def in_json(self, query: str = '',
                **headers: str) -> Iterator[dict[str, Any]]:
        """Yield what a client gets that pages through JSON."""
        place = f'/v2/images{query}'
        while place:
            answer = self.images.request(
                'GET', place.removeprefix('/v2'), headers=headers)
            self.assertEqual(200, answer.status_code, answer.text)
            yield from answer.json()['images']
            place = answer.json().get('next', '')

    def assertSameAsJSON(self, query: str, expected: int,
                         **headers: str) -> None:
        """Compare the ids, and their order."""
        separator = '&' if query else '?'
        wanted = [image['id'] for image in self.in_json(
            f'{query}{separator}limit=1000', **headers)]
        self.assertEqual(expected, len(wanted), query)
        self.assertEqual(wanted, [row['id'] for row in self.rows(
            query, **headers)], query)


class TestExport(ExportCase):

    records: ClassVar[records.Records]

    @classmethod
    def make_glance(cls) -> server.Glance:
        rules = cls.root / 'protections.conf'
        rules.write_text(_PROTECTIONS)
        return server.Glance(
            cls.root, [server.file_store('plain', cls.root / 'plain')],
            options={'DEFAULT': {'property_protection_file': rules}})

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.records = records.Records(cls.glance.config_file)
        cls.records.insert(records.ordinary(COUNT))

    def test_all_of_a_long_list(self) -> None:
        """Once each, in order, in bounded memory."""
        self.rows('?limit=10')
        master = psutil.Process(self.glance.pid)
        workers = master.children(recursive=True)
        idle = {each: meter.resident_mib([each]) for each in workers}
        answer = self.ask()
        grown = [meter.resident_mib([each]) - idle[each] for each in workers]
        self.assertLess(max(grown), MEMORY)
        self.assertEqual(export.CONTENT_TYPE, answer.headers['Content-Type'])
        self.assertIn('.csv"', answer.headers['Content-Disposition'])
        self.assertTrue(answer.headers['x-openstack-request-id'])
        rows = parse(answer.content)
        self.assertEqual(
            [f'{records.DISTRIBUTIONS[number % 4]} server {number}'
             for number in range(COUNT - 1, -1, -1)],
            [row['name'] for row in rows])
        self.assertEqual(COUNT, len({row['id'] for row in rows}))
        self.assertEqual(
            {'status': 'active', 'disk_format': 'qcow2', 'size': '10485760',
             'os_distro': 'windows', 'architecture': 'x86_64',
             'hypervisor_type': 'qemu', 'min_disk': '10', 'min_ram': '512',
             'visibility': 'public', 'protected': 'true',
             'tags': 'cloud,windows',
             'description': 'The windows image no. 10',
             'created_at': '2026-01-01T00:00:10Z',
             'updated_at': '2026-01-01T00:00:10Z', 'owner': noauth.PROJECT,
             'name': 'windows server 10', 'id': rows[-11]['id']}, rows[-11])

    def test_filters(self) -> None:
        for query, expected in (
                ('?name=ubuntu%20server%200', 1), ('?status=queued', 0),
                ('?os_distro=windows&protected=true', COUNT // 20),
                ('?tag=cloud&tag=windows&protected=true', COUNT // 20),
                ('?visibility=private', 0),
                ('?created_at=gte:2026-01-01T01:20:00Z', COUNT - 4800),
                ('?size_min=5033164800', COUNT - 4800)):
            self.assertSameAsJSON(query, expected)

    def test_orders(self) -> None:
        for query in ('sort=name:asc,created_at:desc',
                      'sort_key=size&sort_dir=asc', 'sort_dir=asc'):
            self.assertSameAsJSON(f'?{query}&protected=true', COUNT // 10)

    def test_bounds(self) -> None:
        names = [image['name'] for image in self.in_json('?limit=700')]
        marker = next(self.in_json('?limit=1'))['id']
        for query, first, number in (
                ('?limit=650', 0, 650), ('?limit=1', 0, 1),
                (f'?limit=3&marker={marker}', 1, 3)):
            self.assertEqual(names[first:first + number], [
                row['name'] for row in self.rows(query)], query)
        self.assertEqual([], self.rows('?limit=0'))

    def test_who_sees_what(self) -> None:
        mine = records.Record(
            records.EPOCH, name='mine', visibility='private', tags=('who',))
        self.add(mine, dataclasses.replace(
            mine, name='hidden', os_hidden=True, id=str(uuid.uuid4())))
        self.assertEqual([], self.rows('?tag=who', **STRANGER))
        for query, names in (('?tag=who', ['mine']),
                             ('?tag=who&os_hidden=true', ['hidden'])):
            self.assertEqual(names, [
                row['name'] for row in self.rows(query, **MEMBER)])
        self.assertEqual(100, len(self.rows('?limit=100', **STRANGER)))

    def add(self, *images: records.Record) -> None:
        """Add images for the time of this test."""
        self.records.insert(images)
        for image in images:
            self.addCleanup(self.records.execute, (
                "UPDATE images SET deleted = 1, status = 'deleted' "
                'WHERE id = :image_id'), image_id=image.id)

    def test_odd_texts(self) -> None:
        image_id = self.images.create(
            name="=cmd|'/C calc'!A0", tags=ODD_TAGS,
            description='one, "two"\r\n\u4e09;=4')
        self.addCleanup(self.images.delete, image_id)
        row, = self.rows('?status=queued')
        self.assertEqual(
            ("'=cmd|'/C calc'!A0", 'one, "two"\r\n\u4e09;\'=4', ''),
            (row['name'], row['description'], row['size']))
        tags, = csv.reader(io.StringIO(row['tags'], newline=''))
        self.assertEqual(["'=1+1", *sorted(ODD_TAGS)[1:]], tags)

    def test_type(self) -> None:
        """A filter above picks among the images."""
        self.add(*(records.Record(
            records.EPOCH - datetime.timedelta(seconds=1 + number),
            name=f'{kind} {number}', tags=('types',),
            properties={'image_type': kind})
            for number, kind in enumerate(
                ['snapshot', 'backup', 'other'] * 50)))
        for kind, expected in (('snapshot', 50), ('backup', 50),
                               ('image', 50)):
            self.assertSameAsJSON(f'?tag=types&type={kind}', expected)
        self.assertEqual(7, len(self.rows('?tag=types&type=image&limit=7')))

    def test_what_may_not_be_read(self) -> None:
        """Columns come from what Glance shows."""
        self.add(records.Record(
            records.EPOCH, name='a', tags=('protected',),
            properties={'secret': 'x', 'description': 'y'}))
        for headers in MEMBER, {}:
            row, = self.rows('?tag=protected', **headers)
            self.assertEqual('y', row['description'])
        query = '?tag=protected&secret=x'
        self.assertEqual(1, len(self.rows(query)))
        self.assertEqual([], self.rows(query, **MEMBER))

    def test_errors_before_the_first_byte(self) -> None:
        for query in ('?limit=no', '?limit=-1', '?sort_key=nothing',
                      '?visibility=nobody', f'?marker={uuid.uuid4()}',
                      '?created_at=yesterday', '?size_min=x'):
            answer = self.ask(query)
            self.assertEqual(400, answer.status_code, query)
            self.assertEqual(400, answer.json()['error']['code'])

    def test_others_are_left_alone(self) -> None:
        for accept in ('application/json', '*/*', 'text/html,*/*;q=0.8'):
            answer = self.images.request('GET', '/images?limit=1',
                                         headers={'Accept': accept})
            self.assertEqual(1, len(answer.json()['images']), accept)
        head = self.images.request('HEAD', '/images', headers=CSV)
        self.assertEqual(b'', head.content)

    def test_broken_in_the_middle(self) -> None:
        """The client knows, and the file says so, too."""
        broken = records.Record(records.EPOCH, name='broken', protected=True)
        self.add(broken)
        self.records.execute(
            'INSERT INTO image_locations (image_id, value, meta_data, '
            "created_at, deleted, status) VALUES (:image_id, 'file:///x', "
            "'no JSON', :now, :no, 'active')", image_id=broken.id,
            now=records.EPOCH, no=False)
        self.addCleanup(self.records.execute, 'DELETE FROM image_locations')
        with self.images.request('GET', '/images?protected=true',
                                 headers=CSV, stream=True) as answer:
            self.assertEqual(200, answer.status_code)
            self.assertRaises(requests.RequestException,
                              lambda: answer.content)
        data = self.until_reset()
        # The header, the pages before the broken one, and the last row.
        self.assertIn(data.count(b'\r\n') - 2, range(100, COUNT // 10 + 1))
        self.assertIn(b'"INCOMPLETE: this list was cut short',
                      data.splitlines()[-1])
        self.assertIn('A list of images as CSV was cut short',
                      self.glance.log())

    def until_reset(self) -> bytes:
        """Return what comes, with nothing between us and the socket."""
        place = urllib.parse.urlsplit(self.glance.url)
        connection = http.client.HTTPConnection(
            place.hostname or '', place.port, timeout=60)
        self.addCleanup(connection.close)
        connection.request('GET', '/v2/images?protected=true', headers=CSV)
        got = []
        try:
            answer = connection.getresponse()
            while piece := answer.read1():
                got.append(piece)
        except ConnectionResetError:
            return b''.join(got)
        raise AssertionError('It looks like the whole list')


@base.needs_mariadb
class TestSlowClient(ExportCase):
    """Of two workers each has one connection to the database."""

    COUNT = 400

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(
            cls.root, [server.file_store('plain', cls.root / 'plain')],
            options={'database': {'max_pool_size': 1, 'max_overflow': 0,
                                  'pool_timeout': 5}})

    def test_it_holds_no_connection(self) -> None:
        """And large images take no more memory than small ones."""
        records.Records(self.glance.config_file).insert(
            dataclasses.replace(record, properties={
                'description': 60_000 * 'x'})
            for record in records.ordinary(self.COUNT))
        clients = [self.images.request('GET', '/images', headers=CSV,
                                       stream=True) for _ in range(4)]
        pieces = [client.iter_content(1 << 16) for client in clients]
        begun = [next(each) for each in pieces]
        # Every worker waits for a client to read by now, or soon.
        for _ in range(20):
            answer = self.images.request('GET', '/images?limit=1')
            self.assertEqual(200, answer.status_code, answer.text)
        for beginning, rest in zip(begun, pieces, strict=True):
            rows = parse(beginning + b''.join(rest))
            self.assertEqual(self.COUNT, len(rows))
