"""From words to what is stored."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.properties import catalog
from easystack_image.properties import normalise
from tests.unit import blockstore

CATALOGUE = catalog.Catalogue()
WORDS = [(name, word) for name, choices in catalog.BUILT_IN.items()
         for choice in choices for word in (choice.word, *choice.aliases)]


def properties(lenient: bool = False, **given: Any) -> dict[str, Any]:
    return normalise.properties(CATALOGUE, given, lenient)


class PropertiesTest(testtools.TestCase):

    def test_what_follows(self) -> None:
        for given_, expected in (
                ({'os_distro': 'Windows'},
                 {'os_distro': 'windows', 'os_type': 'windows'}),
                ({'os_distro': 'Arch Linux'},
                 {'os_distro': 'arch', 'os_type': 'linux'}),
                ({'os_distro': 'FreeBSD'}, {'os_distro': 'freebsd'}),
                ({'os_distro': 'others'}, {'os_distro': 'others'}),
                ({'os_type': 'Windows'},
                 {'os_distro': 'windows', 'os_type': 'windows'}),
                ({'os_type': 'Linux'}, {'os_type': 'linux'}),
                ({'os_type': 'Kylin V10'},
                 {'os_distro': 'kylin', 'os_type': 'linux',
                  'os_version': '10'}),
                ({'os_distro': 'CentOS 7', 'os_version': '7.9'},
                 {'os_distro': 'centos', 'os_type': 'linux',
                  'os_version': '7.9'}),
                ({'os_distro': 'CentOS', 'os_type': 'centos'},
                 {'os_distro': 'centos', 'os_type': 'linux'}),
                ({'hw_architecture': 'Arm', 'img_hv_type': 'Bare Metal'},
                 {'hw_architecture': 'aarch64', 'img_hv_type': 'baremetal'}),
                ({'name': 'Arm', 'shade': 'x86'},
                 {'name': 'Arm', 'shade': 'x86'}),
                ({'os_distro': 5, 'architecture': None},
                 {'os_distro': 5, 'architecture': None})):
            self.assertEqual(expected, properties(**given_))

    def test_contradiction(self) -> None:
        for given_ in ({'os_distro': 'CentOS', 'os_type': 'Ubuntu'},
                       {'os_type': 'Ubuntu', 'os_distro': 'CentOS'}):
            error = self.assertRaises(exceptions.InvalidRequest, properties,
                                      **given_)
            self.assertIn('given twice', str(error))

    def test_unknown(self) -> None:
        error = self.assertRaises(exceptions.InvalidRequest, properties,
                                  os_type='BeOS')
        self.assertIn("'BeOS'", str(error))
        self.assertIn('CentOS (centos)', str(error))
        self.assertEqual({'os_type': 'BeOS', 'architecture': 'x86_64'},
                         properties(True, os_type='BeOS',
                                    architecture='x86'))

    @blockstore.examples(200)
    @given(strategies.sampled_from(WORDS), strategies.sampled_from(
        [str.upper, str.lower, str.title, '-'.join, ' '.join]))
    def test_twice_is_once(self, known: tuple[str, str], spell: Any) -> None:
        """What is stored stands for itself."""
        name, word = known
        once = properties(**{name: spell(word)})
        self.assertEqual(once, properties(**once))

    @blockstore.examples(200)
    @given(strategies.dictionaries(
        strategies.sampled_from([*catalog.NAMES, *catalog.NEWER_NAMES, 'x']),
        strategies.text() | strategies.none() | strategies.integers()))
    def test_anything(self, given_: dict[str, Any]) -> None:
        try:
            found = properties(True, **given_)
        except exceptions.InvalidRequest as error:
            self.assertIn('given twice', str(error))
            return
        self.assertEqual(found, properties(True, **found))


class FiltersTest(testtools.TestCase):

    def test_filters(self) -> None:
        self.assertEqual(
            [('os_distro', 'rhel'), ('name', 'Arm'), ('os_distro', 'centos'),
             ('os_version', '7'), ('os_distro', 'beos'),
             ('os_type', 'linux'), ('hw_architecture', 'aarch64'),
             ('os_distro', 'ubuntu'), ('os_distro', '')],
            normalise.filters(CATALOGUE, [
                ('os_distro', 'RedHat'), ('name', 'Arm'),
                ('os_distro', 'CentOS 7'), ('os_distro', 'beos'),
                ('os_type', 'LINUX'), ('hw_architecture', 'Arm'),
                ('os_type', 'Ubuntu'), ('os_distro', '')]))
