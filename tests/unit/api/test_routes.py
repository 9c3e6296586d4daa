"""Which resource a path is for."""

from __future__ import annotations

import testtools

from easystack_image import exceptions
from easystack_image.api import routes

IMAGE = '70b31a50-0d3f-4d1f-a3ee-9c3f7d5ea1a8'


class FindTest(testtools.TestCase):

    def test_list(self) -> None:
        for path in ('/v2/images', '/v2.15/images', '//v2/images'):
            self.assertEqual((routes.Resource.IMAGES, ''), routes.find(path))

    def test_image(self) -> None:
        self.assertEqual((routes.Resource.IMAGE, IMAGE),
                         routes.find(f'/v2/images/{IMAGE}'))
        self.assertEqual((routes.Resource.FILE, IMAGE),
                         routes.find(f'/v2.0/images/{IMAGE}/file'))
        self.assertEqual((routes.Resource.IMPORT, IMAGE),
                         routes.find(f'/v2/images/{IMAGE}/import'))

    def test_version_in_accept(self) -> None:
        accept = 'application/vnd.openstack.images-v2'
        self.assertIs(routes.Resource.IMAGES,
                      routes.find('/images', accept).resource)
        self.assertIs(routes.Resource.IMAGE,
                      routes.find(f'/images/{IMAGE}', accept).resource)
        self.assertIs(routes.OTHER, routes.find('/images'))
        self.assertIs(routes.OTHER, routes.find('/v2/images', accept))

    def test_other(self) -> None:
        for path in ('', '/', '/v2', '/v1/images', '/v2/images/', '/v2images',
                     f'/v2/images/{IMAGE}/', f'/v2/images/{IMAGE}/file/',
                     f'/v2/images/{IMAGE}/members', '/v2//images',
                     '/v2/schemas/images', '/v2/images//file'):
            self.assertIs(routes.OTHER, routes.find(path), path)


class UploadTest(testtools.TestCase):

    def test_data_of_images(self) -> None:
        for path in (f'/v2/images/{IMAGE}/file', f'/v2/images/{IMAGE}/stage',
                     f'/images/{IMAGE}/file'):
            self.assertTrue(routes.is_upload('PUT', path))
            self.assertFalse(routes.is_upload('POST', path))
        self.assertFalse(routes.is_upload('PUT', f'/v2/images/{IMAGE}/tags/'
                                                 'file'))


class PathTest(testtools.TestCase):

    def test_sound(self) -> None:
        for path in ('', '/v2/images', '/é'.encode().decode('latin-1')):
            routes.check_path(path)

    def test_what_routes_overlooks(self) -> None:
        for path in (f'/v2/images/{IMAGE}\n', '/\0', '/\x7f', '/\xff'):
            self.assertRaises(exceptions.InvalidRequest, routes.check_path,
                              path)
