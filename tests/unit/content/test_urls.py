"""Which URLs may be fetched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.content import addresses
from easystack_image.content import urls

NOWHERE = addresses.Networks((), ())


class ParseTest(testtools.TestCase):

    def test_good(self) -> None:
        for text, host, port, target in (
                ('http://example.org', 'example.org', 80, '/'),
                ('HTTP://EXAMPLE.org/a?b=c#d', 'example.org', 80, '/a?b=c'),
                ('https://example.org:8443/', 'example.org', 8443, '/'),
                ('http://192.0.2.1/x', '192.0.2.1', 80, '/x'),
                ('http://[2001:DB8::0:1]:81/', '2001:db8::1', 81, '/'),
                ('http://[::ffff:127.0.0.1]/', '::ffff:7f00:1', 80, '/'),
                ('http://1.example.org/a%20b', '1.example.org', 80,
                 '/a%20b')):
            url = urls.parse(text)
            self.assertEqual((host, port, target),
                             (url.host, url.port, url.target), text)

    def test_authority(self) -> None:
        for text, authority in (
                ('http://example.org:80/', 'example.org'),
                ('https://example.org:80/', 'example.org:80'),
                ('http://[2001:db8::1]/', '[2001:db8::1]'),
                ('http://[2001:db8::1]:8080/', '[2001:db8::1]:8080')):
            self.assertEqual(authority, urls.parse(text).authority)

    def test_addresses_in_disguise(self) -> None:
        """Each is 127.0.0.1 to some program."""
        for host in ('2130706433', '0x7f000001', '017700000001', '127.1',
                     '127.0.1', '0x7f.1', '0177.0.0.1', '127.0.0.1.',
                     '127.00.0.1', '0x7f.0x0.0x0.0x1', '0', '0x', '00',
                     '127.0.0.1%00', '%31%32%37.0.0.1', '[::1%25lo]',
                     '[fe80::1%eth0]', '256.0.0.1', '[127.0.0.1]'):
            error = self.assertRaises(exceptions.UrlRefused, urls.parse,
                                      f'http://{host}/')
            self.assertNotIn('http://', str(error).replace(
                'begin with http://', ''))

    def test_bad(self) -> None:
        for text in ('', 'example.org', 'ftp://example.org/',
                     'file:///etc/passwd', 'http:///etc/passwd', 'http://',
                     'http://user:secret@example.org/',
                     'http://example.org@127.0.0.1/',
                     'http://example.org\\@127.0.0.1/',
                     'http://example.org:99999/', 'http://example.org:x/',
                     'http://example.org:0/', 'http://example.org/\r\nX: y',
                     'http://example.org/a b', 'http://exämple.org/',
                     'http://[::1/', 'http://exam\tple.org/',
                     'http://example.org/' + 'a' * 3000,
                     'gopher://127.0.0.1:11211/_stats'):
            error = self.assertRaises(exceptions.UrlRefused, urls.parse,
                                      text)
            self.assertNotIn('secret', str(error))

    @given(strategies.text(max_size=100))
    def test_anything(self, text: str) -> None:
        for prefix in ('', 'http://', 'http://example.org/'):
            try:
                url = urls.parse(prefix + text)
            except exceptions.UrlRefused:
                continue
            # Whatever passes means the same when it is read once more.
            self.assertEqual(url, urls.parse(str(url)))


class RulesTest(testtools.TestCase):

    def test_lists(self) -> None:
        allowed = urls.UrlRules(
            NOWHERE, allowed_schemes=frozenset({'http'}),
            allowed_hosts=frozenset({'a.org'}), allowed_ports=frozenset({
                80, 81}))
        denied = urls.UrlRules(
            NOWHERE, denied_schemes=frozenset({'https'}),
            denied_hosts=frozenset({'b.org'}), denied_ports=frozenset({82}))
        for rules in (allowed, denied):
            for text in ('http://a.org/', 'http://a.org:81/',
                         'http://A.org/'):
                rules.check(text)
            for text in ('https://a.org/', 'http://b.org/',
                         'http://B.ORG/', 'http://a.org:82/'):
                self.assertRaises(exceptions.UrlRefused, rules.check, text)
