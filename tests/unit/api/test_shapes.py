"""Small things: request ids, links, states."""

from __future__ import annotations

import testtools

from easystack_image.api import links
from easystack_image.api import request_ids
from easystack_image.api import states


class RequestIdTest(testtools.TestCase):

    def test_new(self) -> None:
        made = {request_ids.new() for _ in range(100)}
        self.assertEqual(100, len(made))
        for each in made:
            self.assertTrue(request_ids.is_sound(each))
            self.assertEqual(each, request_ids.prefixed(each))

    def test_what_clients_send(self) -> None:
        for value in ('req-1', 'a' * 64, 'A.b_c-9'):
            self.assertTrue(request_ids.is_sound(value))
        for value in ('', 'a b', 'a\r\nb', 'é', 'a' * 65, 'a\n'):
            self.assertFalse(request_ids.is_sound(value), value)
        self.assertTrue(request_ids.is_sound('a' * 65, 100))
        self.assertEqual('req-a', request_ids.prefixed('a'))


class LinksTest(testtools.TestCase):

    def test_as_in_the_manual(self) -> None:
        for base in ('http://image.example/', 'http://image.example'):
            image = {'id': 'ID'}
            links.add(image, base)
            self.assertEqual([
                {'rel': 'self', 'href': 'http://image.example/v2/images/ID'},
                {'rel': 'bookmark', 'href': 'http://image.example/images/ID'},
                {'rel': 'alternate', 'href': 'http://image.example/images/ID',
                 'type': 'application/vnd.openstack.image'}], image['links'])


class StatesTest(testtools.TestCase):

    def test_modified(self) -> None:
        allowed = {'active', 'queued'}
        for status in allowed:
            self.assertEqual('', states.why_not_modified(
                {'id': 'ID', 'status': status}, allowed))
        for status in ('saving', 'importing', 'deactivated'):
            image = {'id': 'ID', 'status': status}
            self.assertEqual(
                f'Image ID is {status}: it can be modified only while it is '
                'active or queued', states.why_not_modified(image, allowed))
            self.assertEqual('', states.why_not_modified(image, ()))

    def test_lost_data(self) -> None:
        for status in ('active', 'deactivated'):
            self.assertIn('ID', states.lost_data(
                {'id': 'ID', 'status': status, 'size': 1}))
        for image in ({'status': 'queued', 'size': None},
                      {'status': 'saving', 'size': 5},
                      {'status': 'active', 'size': 0},
                      {'status': 'active', 'size': None}):
            self.assertEqual('', states.lost_data({'id': 'ID', **image}))
