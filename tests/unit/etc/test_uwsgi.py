"""The sample for uWSGI is how the tests run Glance."""

from __future__ import annotations

import configparser
from pathlib import Path

import testtools

from tests.functional import wsgi

SAMPLE = Path(__file__).parents[3] / 'etc' / 'uwsgi' / 'glance-api.ini'


def options(command: list[str]) -> dict[str, str]:
    """Return the options of a command, as they stand in a file."""
    found: dict[str, str] = {}
    name = ''
    for word in command[1:]:
        if word.startswith('--'):
            name = word.removeprefix('--')
            found[name] = 'true'
        else:
            found[name] = word
    return found


class SampleTest(testtools.TestCase):

    def test_it_is_what_is_tested(self) -> None:
        sample = configparser.ConfigParser(interpolation=None)
        sample.read(SAMPLE)
        service = wsgi.Service('Glance', 'glance.wsgi.api:application',
                               Path('log'), workers=2, threads=8, port=9292)
        self.assertEqual(options(service.command), dict(sample['uwsgi']))
