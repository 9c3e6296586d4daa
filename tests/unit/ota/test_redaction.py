"""Passwords in what hooks say."""

from __future__ import annotations

from oslo_config import cfg

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

    def test_lines_that_are_no_options(self) -> None:
        """Errors of oslo.config have them in."""
        for text in ('[DEFAULT]\npassword hunter2secret\n',
                     'hunter2secret', '= hunter2secret', ': hunter2secret',
                     '[keystone_authtoken hunter2secret\n',
                     '[x = hunter2secret',
                     '[DEFAULT]\n\tpassword = hunter2secret',
                     '[DEFAULT]\n  # hunter2secret',
                     '[DEFAULT]\ndebug = true\n\n    hunter2secret',
                     '[DEFAULT]\ndebug = 1\n# words\n hunter2secret=',
                     'password \'a"b\\hunter2secret\tc'):
            redact = self.of(text)
            error = self.assertRaises(
                cfg.ConfigFileParseError, cfg.ConfigOpts(),
                [f'--config-file={self.root}/glance-api.conf'],
                default_config_files=[])
            self.assertIn('hunter2secret', str(error))
            self.assertNotIn('hunter2secret', redact(str(error)))
            self.assertIn(f'{self.root}/glance-api.conf:',
                          redact(str(error)))

    def test_options_of_several_lines(self) -> None:
        redact = self.of(
            '[DEFAULT]\npassword = first part\n  second part\n'
            'connections = mysql://a:s3cr3t@x,\n  mysql://b:bunny@y\n'
            'methods =\n  file\n  http\n[x]\n# words\nab\nnone\n')
        for text, expected in (
                ('first part, second part', '***, ***'),
                ('s3cr3t, bunny', '***, ***'),
                ('file and http words ab none',
                 'file and http words ab none')):
            self.assertEqual(expected, redact(text))

    def test_of_a_file_that_may_have_any_lines(self) -> None:
        path = self.root / 'paste.ini'
        path.write_text('[a]\npassword =\n  hunter2\nwords\n  more\n')
        redact = redaction.of([str(path)], (), loose=False)
        self.assertEqual('*** words more', redact('hunter2 words more'))

    def test_short_ones_take_nothing_out(self) -> None:
        self.assertEqual('a 12 b', self.of('password = 12\n')('a 12 b'))
