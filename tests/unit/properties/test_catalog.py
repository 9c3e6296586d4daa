"""Every documented word, and what it stands for."""

from __future__ import annotations

import itertools
import time

import testtools

from easystack_image import exceptions
from easystack_image.properties import catalog
from tests.unit.properties import words


class CatalogueTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.catalogue = catalog.Catalogue()

    def value(self, name: str, word: str) -> str | None:
        found = self.catalogue.find(name, word)
        return found.value if found else None

    def test_manual(self) -> None:
        for name, expected in words.MANUAL.items():
            for word, value in expected.items():
                self.assertEqual(value, self.value(name, word))
                # By the manual's spelling it is shown as well.
                self.assertIn(f'{word} ({value})' if word != value else word,
                              self.catalogue.allowed(name).split(', '))

    def test_documented(self) -> None:
        """The documentation has each word that there is, and no other."""
        found = words.documented()
        self.assertEqual(
            {(name, word, choice.value)
             for name, choices in catalog.BUILT_IN.items()
             for choice in choices
             for word in (choice.value, choice.word, *choice.aliases)},
            set(found))
        for name, word, value in found:
            self.assertEqual(value, self.value(name, word), word)

    def test_no_word_has_two_meanings(self) -> None:
        for name, choices in catalog.BUILT_IN.items():
            for one, other in itertools.combinations(choices, 2):
                self.assertEqual(set(), {
                    catalog.fold(word) for word in
                    (one.value, one.word, *one.aliases)}.intersection(
                    catalog.fold(word) for word in
                    (other.value, other.word, *other.aliases)), name)

    def test_spellings(self) -> None:
        for word in ('RED HAT', 'red_hat', ' redhat ', 'Red-Hat', 'R.ed/Hat',
                     'ｒｅｄｈａｔ'):
            self.assertEqual('rhel', self.value('os_distro', word), word)
        for word in ('X86-64', 'x86_64', 'AMD64', 'x86 64'):
            self.assertEqual('x86_64', self.value('architecture', word))

    def test_unknown(self) -> None:
        for word in ('', ' ', '-', 'sparkle', 'cent os 7', 'a' * 10**6, '\0'):
            self.assertIsNone(self.value('os_distro', word), word[:9])
        for word in ('i686', 'ppc64le', 'armv7l'):
            self.assertIsNone(self.value('architecture', word))

    def test_versions(self) -> None:
        for text, expected in (
                ('CentOS 7', ('centos', '7')),
                ('centos7.9', ('centos', '7.9')),
                ('ubuntu-22.04', ('ubuntu', '22.04')),
                ('Windows Server 2022', ('windows', '2022')),
                ('Kylin V10 SP1', ('kylin', '10 SP1')),
                ('SUSE Linux Enterprise Server 15 SP4', ('sles', '15 SP4')),
                ('rhel8.6', ('rhel', '8.6')), ('CentOS', None), ('7', None),
                ('sparkle 7', None), ('CentOS 7!', None), ('', None)):
            found = self.catalogue.find_version(text)
            self.assertEqual(expected, found and (found[0].value, found[1]),
                             text)

    def test_time(self) -> None:
        """No text takes long."""
        begin = time.perf_counter()
        for text in ('a ' * 10**6, ' ' * 10**6, 'a' + '-' * 10**6 + '1',
                     'a ' * 49, 'a1' * 50, 'a' + ' ' * 98 + 'x'):
            self.catalogue.find_version(text)
        self.assertLess(time.perf_counter() - begin, 5)


class OptionsTest(testtools.TestCase):

    def test_more_words(self) -> None:
        ours = catalog.Catalogue({'os_distro': {
            'Rocky Linux': 'rocky', 'SUSE': 'opensuse', 'RL': 'rocky'}})
        for word, value in (('rocky-linux', 'rocky'), ('Rocky', 'rocky'),
                            ('rl', 'rocky'), ('suse', 'opensuse'),
                            ('SLES', 'sles'), ('CentOS', 'centos')):
            found = ours.find('os_distro', word)
            self.assertEqual(value, found and found.value, word)
        self.assertIn('Rocky Linux (rocky)', ours.allowed('os_distro'))

    def test_fewer_values(self) -> None:
        ours = catalog.Catalogue(
            {'os_distro': {'Rocky': 'rocky'}},
            {'os_distro': ['rocky', 'ubuntu'], 'architecture': []})
        self.assertEqual('Rocky (rocky), Ubuntu (ubuntu)',
                         ours.allowed('os_distro'))
        self.assertIsNone(ours.find('os_distro', 'CentOS'))
        self.assertIsNotNone(ours.find('architecture', 'Arm'))

    def test_wrong(self) -> None:
        error = self.assertRaises(
            exceptions.ConfigurationError, catalog.Catalogue, None,
            {'architecture': ['x86_64', 'riscv64']})
        self.assertIn('riscv64', str(error))
        self.assertIn('aarch64, x86_64', str(error))
