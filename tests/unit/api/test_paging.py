"""Going through all of a list, page by page."""

from __future__ import annotations

from collections.abc import Callable
import json
import urllib.parse

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies
import testtools

from easystack_image.api import paging
from tests.unit.api import simulated

Keep = Callable[[paging.Image], bool]


def names(images: list[simulated.Image]) -> list[str]:
    return [str(image['name']) for image in images]


def walk(listing: simulated.Listing, query: str = '',
         keep: Keep | None = None) -> list[str]:
    """Return the names of the images on all pages."""
    pages = paging.Paging(paging.Query(query), keep)
    found: list[str] = []
    while pages.more:
        status, record = listing.page(pages.next_query())
        if status == 400 and pages.step_back():
            continue
        assert status == 200, record
        found += names(pages.take(record['images'], len(json.dumps(record)),
                                  'next' in record))
    return found


def listing(count: int, **properties: object) -> simulated.Listing:
    return simulated.Listing([simulated.image(number, **properties)
                              for number in range(count)])


class WalkTest(testtools.TestCase):

    def test_everything_once_and_in_order(self) -> None:
        for count in (0, 1, 99, 100, 101, 600, 1234):
            images = listing(count)
            self.assertEqual(names(images.images), walk(images), count)

    def test_the_other_way_round(self) -> None:
        images = listing(777)
        self.assertEqual(names(images.images)[::-1],
                         walk(images, 'sort_dir=asc'))

    def test_images_of_one_second(self) -> None:
        images = listing(777, created_at='2026-02-25T11:28:54Z')
        self.assertEqual(names(images.images), walk(images))

    @settings(deadline=None)
    @given(strategies.integers(0, 300), strategies.integers(0, 400),
           strategies.integers(1, 150))
    def test_limit(self, count: int, limit: int, maximum: int) -> None:
        """Whatever pages Glance allows."""
        images = listing(count)
        images.maximum = maximum
        self.assertEqual(names(images.images)[:limit],
                         walk(images, f'limit={limit}'))

    def test_marker(self) -> None:
        images = listing(300)
        marker = images.images[99]['id']
        self.assertEqual(names(images.images)[100:],
                         walk(images, f'marker={marker}'))

    def test_keep(self) -> None:
        images = listing(1000)
        wanted = [name for name in names(images.images)
                  if name.endswith('7')]
        for limit in (1, 5, 100, 101):
            images.asked.clear()
            self.assertEqual(wanted[:limit], walk(
                images, f'limit={limit}',
                lambda image: image['name'].endswith('7')))
            self.assertLess(len(images.asked), 10)

    def test_pages_grow_to_a_bound(self) -> None:
        images = listing(3000)
        walk(images)
        sizes = [int(asked['limit']) for asked in images.asked]
        self.assertEqual([100, 400, 600, 600], sizes[:4])
        self.assertEqual(600, max(sizes))

    def test_large_images_come_few_at_a_time(self) -> None:
        images = listing(300, description='x' * 60_000)
        self.assertEqual(300, len(walk(images)))
        self.assertEqual({10}, {int(asked['limit'])
                                for asked in images.asked[1:]})

    def test_many_properties_and_tags_come_few_at_a_time(self) -> None:
        """Glance reads a row for each pair of them."""
        images = listing(500, tags=[str(number) for number in range(20)],
                         **{f'property{number}': 'x' for number in range(48)})
        self.assertEqual(500, len(walk(images)))
        self.assertEqual({100, 8}, {int(asked['limit'])
                                    for asked in images.asked})

    def test_larger_than_a_page_should_be(self) -> None:
        images = listing(3, description='x' * 2_000_000)
        images.maximum = 1
        self.assertEqual(3, len(walk(images)))


class DeletionTest(testtools.TestCase):

    def delete(self, number: int, when: int, begin: int = 0) -> list[str]:
        """Delete the last images that were listed, and go on.

        :param number: how many of them
        :param when: before which request
        :param begin: where the client begins to list
        """
        images = listing(1500)
        gone: list[str] = []

        def meanwhile(current: simulated.Listing) -> None:
            if len(current.asked) == when:
                marker = names(current.images).index(listed[-1])
                first = max(0, marker + 1 - number)
                gone.extend(names(current.images)[first:marker + 1])
                del current.images[first:marker + 1]

        listed: list[str] = []
        images.meanwhile = meanwhile
        expected = names(images.images)
        query = f'marker={images.images[begin - 1]["id"]}' if begin else ''
        pages = paging.Paging(paging.Query(query))
        while pages.more:
            status, record = images.page(pages.next_query())
            if status == 400 and pages.step_back():
                continue
            self.assertEqual(200, status)
            listed += names(pages.take(
                record['images'], len(json.dumps(record)), 'next' in record))
        self.assertEqual(number, len(gone))
        # They were there when they were listed.
        self.assertEqual(expected[begin:], listed)
        return listed

    def test_the_last_one(self) -> None:
        self.delete(1, 2)

    def test_some(self) -> None:
        for number in (2, 3, 7, 100, 400):
            self.delete(number, 3)

    def test_all_of_the_first_page(self) -> None:
        self.delete(100, 1)

    def test_behind_a_marker(self) -> None:
        self.delete(100, 1, begin=10)

    def test_the_marker_of_the_client(self) -> None:
        """It is the client's error, and nothing to begin anew from."""
        pages = paging.Paging(paging.Query('marker=gone'))
        self.assertFalse(pages.step_back())


class QueryTest(testtools.TestCase):

    def asked(self, query: str, **arguments: str) -> list[tuple[str, str]]:
        return urllib.parse.parse_qsl(
            paging.Query(query).page(7, **arguments), True)

    def test_the_rest_is_left_alone(self) -> None:
        rest = 'tag=a&tag=b%2Cc&name=%FF%GG&x&status=active'
        page = paging.Query(f'limit=9&{rest}&sort=name').page(7, 'id')
        self.assertEqual(f'{rest}&sort=name&limit=7&marker=id', page)

    def test_limits(self) -> None:
        for text, limit in (('0', 0), ('5', 5), ('%205', 5), ('9' * 40,
                                                             int('9' * 40))):
            query = paging.Query(f'limit={text}')
            self.assertEqual(limit, query.limit)
            self.assertIn('limit=7', query.page(7))

    def test_what_is_no_limit_is_glances_to_judge(self) -> None:
        for text in ('-1', 'many', '', '1.5', '%00'):
            query = paging.Query(f'limit={text}')
            self.assertIsNone(query.limit)
            self.assertIn(('limit', urllib.parse.unquote(text)),
                          self.asked(f'limit={text}'))

    def test_bounds(self) -> None:
        made = '2026-02-25T11:28:54Z'
        for query, first, later in (
                ('', 'lte:9999-12-31T23:59:59Z', 'lte:2026-02-25T11:28:55Z'),
                ('sort_dir=asc', 'gte:1970-01-01T00:00:00Z', f'gte:{made}'),
                ('sort=created_at:asc,name', 'gte:1970-01-01T00:00:00Z',
                 f'gte:{made}'),
                ('sort=created_at', 'lte:9999-12-31T23:59:59Z',
                 'lte:2026-02-25T11:28:55Z')):
            self.assertIn(('created_at', first), self.asked(query))
            self.assertIn(('created_at', later),
                          self.asked(query, marker='id', created_at=made))

    def test_no_bounds(self) -> None:
        for query in ('sort=name', 'sort_key=name', 'sort_dir=up',
                      'sort=size,created_at', 'sort_key=size'):
            self.assertNotIn('created_at', dict(self.asked(query)))
        self.assertEqual('gt:2026-01-01', dict(self.asked(
            'created_at=gt:2026-01-01'))['created_at'])
