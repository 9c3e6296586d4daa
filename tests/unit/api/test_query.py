"""The parameters of a list, in everybody's spelling."""

from __future__ import annotations

import time
import urllib.parse

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import testtools

from easystack_image import exceptions
from easystack_image.api import filters
from easystack_image.api import query


class QueryCase(testtools.TestCase):

    def asked(self, query_string: str) -> list[tuple[str, str]]:
        return list(query.parse(query_string).asked)

    def refused(self, query_string: str, *words: str) -> None:
        error = self.assertRaises(exceptions.InvalidRequest, query.parse,
                                  query_string)
        for word in words:
            self.assertIn(word, str(error))


class ManualTest(QueryCase):
    """The manual's own parameters."""

    def test_changes_since(self) -> None:
        for name in ('changes-since', 'changes_since'):
            for value, since in (
                    ('2021-02-25T11:28:54Z', '2021-02-25T11:28:54Z'),
                    ('2021-02-25', '2021-02-25T00:00:00Z'),
                    ('20210225T112854Z', '2021-02-25T11:28:54Z'),
                    ('2021-02-25T11:28:54.999Z', '2021-02-25T11:28:54Z'),
                    ('2021-02-25T19:28:54%2B08:00', '2021-02-25T11:28:54Z'),
                    # A plus sign that nobody encoded.
                    ('2021-02-25T19:28:54+08:00', '2021-02-25T11:28:54Z'),
                    ('2021-02-25+11:28:54', '2021-02-25T11:28:54Z'),
                    ('0001-01-01', '0001-01-01T00:00:00Z')):
                self.assertEqual([('updated_at', f'gte:{since}')],
                                 self.asked(f'{name}={value}'), value)

    def test_changes_since_that_is_no_time(self) -> None:
        for value in ('yesterday', '2021-02-30', '0001-01-01T00:00%2B14:00',
                      '1614252534', 'gt:2021-02-25'):
            self.refused(f'changes-since={value}', '"changes-since"',
                         'ISO 8601')
        self.refused('changes-since=2021-02-25&updated_at=gt:2020-01-01',
                     '"changes-since"', '"updated_at"')

    def test_status_in_any_case(self) -> None:
        for status in filters.STATUSES:
            for value in (status, status.upper(), status.title()):
                self.assertEqual([('status', status)],
                                 self.asked(f'status={value}'))
        self.assertEqual([('status', 'in:active,queued')],
                         self.asked('status=in:Active,%22QUEUED%22'))
        self.refused('status=ERROR', '"status"', 'active', 'queued')
        self.refused('status=in:active,ERROR', '"status"')

    def test_type(self) -> None:
        for value in ('snapshot', 'backup', 'Snapshot'):
            self.assertEqual([('image_type', value.lower())],
                             self.asked(f'type={value}'))
            self.assertFalse(query.parse(f'type={value}').only_images)
        found = query.parse('type=image&limit=5')
        self.assertEqual([('limit', '5')], list(found.asked))
        self.assertTrue(found.only_images)
        self.assertFalse(found.plain)
        self.assertTrue(found.wants({'image_type': 'other'}))
        self.assertTrue(found.wants({}))
        self.assertFalse(found.wants({'image_type': 'backup'}))
        self.refused('type=volume', '"type"', 'snapshot')
        self.refused('type=snapshot&image_type=backup', '"type"')
        self.refused('type=image&image_type=snapshot', '"type"')
        found = query.parse('type=image&image_type=other')
        self.assertEqual([('image_type', 'other')], list(found.asked))
        self.assertTrue(found.only_images)

    def test_sorting(self) -> None:
        self.assertEqual(
            [('sort_key', 'name'), ('sort_dir', 'asc')],
            self.asked('sort-key=name&sort-dir=ASC'))
        self.assertEqual(
            [('sort_key', 'name'), ('sort_key', 'size'),
             ('sort_dir', 'asc'), ('sort_dir', 'desc')],
            self.asked('sort-key=name&sort_key=size&sort_dir=asc'
                       '&sort-dir=desc'))
        self.refused('sort-key=colour', '"sort-key"', 'created_at')
        self.refused('sort_dir=up', '"sort_dir"', 'asc, desc')

    def test_more_keys_than_there_are(self) -> None:
        """With a marker, 200 keep a worker busy for a minute."""
        self.assertEqual(8, len(self.asked('sort-key=name&' * 8)))
        self.refused('sort-key=name&' * 9, '"sort-key"', '8 keys')
        keys = ','.join(['name:asc'] * 8)
        self.assertEqual([('sort', keys)], self.asked(f'sort={keys}'))
        self.refused(f'sort={keys},id', '"sort"', '8 keys')

    def test_limit(self) -> None:
        self.assertEqual(20, query.parse('limit=20').limit)
        self.assertEqual(0, query.parse('limit=0').limit)
        self.assertEqual(None, query.parse('').limit)
        for value in ('-1', 'ten', '1.5', '9' * 5000, str(2**31)):
            self.refused(f'limit={value}', '"limit"', 'whole number')

    def test_empty_values_are_as_good_as_absent(self) -> None:
        names = ('changes-since', 'name', 'status', 'type', 'sort-key',
                 'sort-dir', 'limit', 'marker', 'tag', 'properties', 'x')
        self.assertEqual([], self.asked('&'.join(
            f'{name}=' for name in names)))
        self.assertEqual([('name', 'a')], self.asked('name=&name=a&size=+'))


class GlanceTest(QueryCase):
    """What Glance knows by itself."""

    def test_untouched(self) -> None:
        """Clients of Glance get Glance's own answer, to the letter."""
        for asked in (
                '', 'limit=20&sort_key=name&sort_dir=asc',
                'sort=name:asc,size:desc', 'tag=a', 'name=cirros',
                'name=in:%22a,b%22,c', 'status=in:active,queued',
                'visibility=all&os_hidden=true', 'protected=false',
                'size_min=1&size_max=1000', 'created_at=gt:2021-02-25T00:00:'
                '00Z', 'owner=abc&member_status=all', 'os_distro=ubuntu',
                'marker=70b31a50-0d3f-4d1f-a3ee-9c3f7d5ea1a8', 'min_ram=512',
                'disk_format=in:raw,qcow2', 'id=in:a,b', 'checksum=x'):
            found = query.parse(asked)
            self.assertEqual(list(found.given), list(found.asked), asked)
            self.assertTrue(found.plain, asked)

    def test_repeated_tags(self) -> None:
        """Glance's links lose them, so they are written anew."""
        found = query.parse('tag=a&tag=b')
        self.assertEqual(list(found.given), list(found.asked))
        self.assertFalse(found.plain)

    def test_repeated(self) -> None:
        self.refused('name=a&name=b', '"name"', 'more than once')
        self.assertEqual([('name', 'a')], self.asked('name=a&name=a'))

    def test_colons_in_names(self) -> None:
        self.assertEqual([('name', 'eq:ubuntu:22.04')],
                         self.asked('name=ubuntu:22.04'))
        self.refused('name=neq:a', '"name"', 'neq:')

    def test_numbers(self) -> None:
        for name, largest in (('size', 2**63 - 1), ('min_ram', 2**31 - 1)):
            for each in (name, f'{name}_min', f'{name}_max'):
                self.assertEqual([(each, str(largest))],
                                 self.asked(f'{each}={largest}'))
                for value in (largest + 1, -1, 'x', '9' * 5000):
                    self.refused(f'{each}={value}', f'"{each}"')

    def test_bounds_of_other_things(self) -> None:
        for name in ('foo_min', 'name_max', 'created_at_min',
                     'os_hidden_min', 'properties_max', '__class___min'):
            self.refused(f'{name}=1', f'"{name}"')

    def test_words(self) -> None:
        for name, value in (('visibility', 'secret'), ('protected', 'maybe'),
                            ('os_hidden', '1'), ('member_status', 'x'),
                            ('deleted', 'true')):
            self.refused(f'{name}={value}', f'"{name}"')
        self.assertEqual([('protected', 'true')],
                         self.asked('protected=TRUE'))

    def test_times(self) -> None:
        for name in ('created_at', 'updated_at'):
            self.assertEqual(
                [(name, 'lte:2021-02-25T11:28:54Z')],
                self.asked(f'{name}=lte:2021-02-25T12:28:54%2B01:00'))
            for value in ('x', 'in:2021-02-25', 'gt:',
                          'gt:0001-01-01T00:00%2B14:00'):
                self.refused(f'{name}={value}', f'"{name}"')

    def test_too_many_joins(self) -> None:
        most = '&'.join(f'p{number}=x' for number in range(15))
        query.parse(f'{most}&tag=a&name=b&limit=1&sort_key=name')
        self.refused(f'{most}&tag=a&tag=b', '16', '17')


class NonsenseTest(QueryCase):

    def test_attributes_of_the_model(self) -> None:
        for name in ('properties', 'locations', 'tags', 'members', 'save',
                     'metadata', 'mro', '__class__', '_sa_registry'):
            self.refused(f'{name}=x', f'"{name}"')
        self.refused('tags=x', '"tag"')

    def test_characters(self) -> None:
        self.refused('name=%ff', 'UTF-8')
        self.refused('%ff=a', 'UTF-8')
        self.refused('name=%ED%A0%80', 'UTF-8')
        self.refused('name=\xe9', 'UTF-8')
        self.refused('name=%00', '"name"', 'U+0000')
        self.refused('name=%F0%9F%98%80', '"name"', 'U+FFFF')
        self.refused('=x', 'no name')
        # Bytes that nobody encoded, as WSGI has them.
        raw = '日本'.encode().decode('latin-1')
        self.assertEqual([('name', '日本')], self.asked(f'name={raw}'))

    def test_method(self) -> None:
        for asked in ('_method=PATCH', 'a=1&_method=get', 'a;_method=PUT'):
            self.assertRaises(exceptions.InvalidRequest,
                              query.check_method, asked)
        query.check_method('my_method=x&name=_method')
        self.refused('_method=GET', '"_method"')

    def test_long_nonsense(self) -> None:
        """It takes no time that grows with the square of its length."""
        started = time.thread_time()
        self.refused(f'changes-since={"T" * 60000}', '"changes-since"')
        self.refused(f'created_at=gt:{"T " * 30000}', '"created_at"')
        self.assertLess(time.thread_time() - started, 2)

    # A busy machine is no reason to fail.
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.text(max_size=80))
    def test_any_text(self, text: str) -> None:
        """It is understood or refused, and never passed on half."""
        for asked in (text, urllib.parse.quote(text, safe='=&')):
            try:
                found = query.parse(asked)
            except exceptions.InvalidRequest as error:
                self.assertNotEqual('', str(error))
            else:
                self.assertEqual(list(found.asked),
                                 query.split(query.encode(found.asked)))


class LinkTest(QueryCase):

    def test_every_parameter_stays(self) -> None:
        asked = ('changes-since=2021-02-25&tag=a&tag=b&type=image&status='
                 'ACTIVE&sort-key=name&name=')
        found = query.parse(f'{asked}&marker=m')
        self.assertEqual(f'/v2/images?{asked}', found.link())
        self.assertEqual(f'/v2/images?{asked}&marker=n', found.link('n'))

    def test_no_parameters(self) -> None:
        self.assertEqual('/v2/images', query.parse('marker=m').link())
        self.assertEqual('/v2/images?marker=n', query.parse('').link('n'))
