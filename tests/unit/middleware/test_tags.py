"""Paths with tags, before an application that is not Glance."""

from __future__ import annotations

from collections.abc import Iterable

import testtools

from easystack_image.middleware import tags
from easystack_image.middleware import wsgi


class TagsTest(testtools.TestCase):

    def seen(self, path: str) -> str:
        """Return what the application sees of a path, as WSGI has it."""
        found: list[str] = []

        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            found.append(environ['PATH_INFO'])
            start_response('204 No Content', [])
            return []

        environ = {'PATH_INFO': path}
        self.assertEqual(204, wsgi.call(tags.Tags(app), environ).code)
        # Whoever stands before it still finds what WebOb wants.
        self.assertEqual({'PATH_INFO': path}, environ)
        return found[0]

    def test_tags(self) -> None:
        for tag in ('red', 'é', '生产', 'a\nb', '😀'):
            path = f'/images/17/tags/{tag}'
            self.assertEqual(path, self.seen(
                path.encode().decode('latin-1')))

    def test_no_utf_8(self) -> None:
        path = '/images/17/tags/\xff'
        self.assertEqual(path, self.seen(path))

    def test_other_paths(self) -> None:
        """What Glance does for them may ask WebOb for the path."""
        for path in ('/images/é', '/images/é/file', '/images/17/tags/é/é',
                     '/metadefs/namespaces/é/tags/é'):
            wire = path.encode().decode('latin-1')
            self.assertEqual(wire, self.seen(wire))
