"""Passwords in what hooks say."""

from __future__ import annotations

from easystack_image.ota import redaction
from tests.unit.ota import base


class RedactionTest(base.Case):

    def of(self, text: str) -> redaction.Redactor:
        path = self.root / 'glance-api.conf'
        path.write_text(text)
        return redaction.of([str(path), '/nonexistent'], [str(self.root)])

    def test_options(self) -> None:
        redact = self.of(
            '[database]\nconnection = mysql+pymysql://glance:s3cr3t%2Fdb@h/g\n'
            '[keystone_authtoken]\npassword = hush hush\n'
            '# password = commented\n'
            'memcache_secret_key= k3y-of-memcache\n'
            '[DEFAULT]\ntransport_url = rabbit://a:bunny@x,b:rabbit@y\n'
            'debug = true\npassword_needed = true\n')
        for text, expected in (
                ('a s3cr3t/db or s3cr3t%2Fdb', 'a *** or ***'),
                ('it is "hush hush"!', 'it is "***"!'),
                ('k3y-of-memcache', '***'), ('a bunny', 'a ***'),
                ('true, commented', 'true, commented')):
            self.assertEqual(expected, redact(text))

    def test_whatever_looks_like_one(self) -> None:
        redact = redaction.Redactor()
        for text, expected in (
                ('(mysql+pymysql://glance:pa@ss@10.0.0.1/glance)',
                 '(mysql+pymysql://glance:***@10.0.0.1/glance)'),
                ("url='rabbit://g:x@h:5672//'", "url='rabbit://g:***@h:5672//'"),
                ('password=abc, next', 'password=***, next'),
                ('"admin_password": "abc"', '"admin_password": "***"'),
                ('X-Auth-Token: gAAA', 'X-Auth-Token: ***'),
                ('http://127.0.0.1:8080/a and b@c',
                 'http://127.0.0.1:8080/a and b@c'),
                ('no password is needed', 'no password is needed')):
            self.assertEqual(expected, redact(text))

    def test_config_dirs(self) -> None:
        (self.root / 'more.conf').write_text('password: of-a-directory\n')
        self.assertEqual('***', redaction.of([], [str(self.root)])(
            'of-a-directory'))
        self.assertEqual('***', redaction.of([], [], ['secret-url'])(
            'secret-url'))

    def test_short_ones_take_nothing_out(self) -> None:
        self.assertEqual('a 12 b', self.of('password = 12\n')('a 12 b'))
