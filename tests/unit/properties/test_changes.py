"""Patches, as Glance reads them, and what comes of them."""

from __future__ import annotations

from typing import Any

import testtools

from easystack_image import exceptions
from easystack_image.properties import catalog
from easystack_image.properties import changes

CATALOGUE = catalog.Catalogue()


def applied(image: dict[str, Any], *patch: Any,
            form: str = changes.NEW_FORM) -> changes.Patch:
    found = changes.Patch(CATALOGUE, image, form)
    found.apply(list(patch))
    return found


def new(op: str, path: str, *value: Any) -> dict[str, Any]:
    return {'op': op, 'path': path} | ({'value': value[0]} if value else {})


class PatchTest(testtools.TestCase):

    def test_values(self) -> None:
        patch = applied({'os_distro': 'windows', 'os_type': 'windows'},
                        new('replace', '/os_distro', 'Red Hat'),
                        new('add', '/name', 'Arm'))
        self.assertEqual(
            [new('replace', '/os_distro', 'rhel'), new('add', '/name', 'Arm'),
             new('replace', '/os_type', 'linux')], patch.operations)
        self.assertEqual({'os_distro': 'rhel', 'os_type': 'linux',
                          'name': 'Arm'}, patch.image)
        # What follows needs no permission of its own.
        self.assertEqual([changes.Change('os_distro', 'windows', 'rhel')],
                         patch.changes)

    def test_old_form(self) -> None:
        patch = applied({'shade': 'x'}, {'add': '/os_distro',
                                         'value': 'Ubuntu 22.04'},
                        {'remove': '/shade'}, form=changes.OLD_FORM)
        self.assertEqual(
            [{'add': '/os_distro', 'value': 'ubuntu'}, {'remove': '/shade'},
             {'add': '/os_type', 'value': 'linux'},
             {'add': '/os_version', 'value': '22.04'}], patch.operations)
        self.assertNotIn('shade', patch.image)

    def test_os_type_of_the_manual(self) -> None:
        self.assertEqual(
            [new('add', '/os_distro', 'ubuntu'),
             new('add', '/os_type', 'linux')],
            applied({}, new('add', '/os_type', 'Ubuntu')).operations)

    def test_explicit_wins(self) -> None:
        patch = applied({}, new('add', '/os_distro', 'CentOS 7'),
                        new('add', '/os_version', '7.9'),
                        new('remove', '/os_type'))
        self.assertEqual(3, len(patch.operations))
        self.assertEqual({'os_distro': 'centos', 'os_version': '7.9'},
                         patch.image)

    def test_os_distro_is_not_changed_by_os_type(self) -> None:
        patch = applied({'os_distro': 'centos'},
                        new('add', '/os_type', 'Windows'))
        self.assertEqual('centos', patch.image['os_distro'])
        self.assertEqual(1, len(patch.operations))

    def test_actions(self) -> None:
        patch = applied({'architecture': 'x86_64', 'os_type': 'linux'},
                        new('replace', '/architecture', 'Arm'),
                        new('add', '/hw_architecture', 'Arm'),
                        new('remove', '/architecture'),
                        new('add', '/architecture', 'x86'),
                        new('replace', '/os_type', 'LINUX'))
        self.assertEqual(
            [('architecture', 'update'), ('hw_architecture', 'create'),
             ('architecture', 'delete'), ('architecture', 'create'),
             ('os_type', '')],
            [(change.name, change.action) for change in patch.changes])

    def test_pointers(self) -> None:
        """Glance strips blanks and leading slashes."""
        for path in ('/architecture', '//architecture', '/ architecture\t'):
            self.assertEqual(['architecture'], list(changes.names(
                [new('add', path, 'x86')], changes.NEW_FORM)))
            self.assertEqual('x86_64', applied({}, new(
                'add', path, 'x86')).image['architecture'])

    def test_what_is_glances_to_refuse(self) -> None:
        for raw in ({}, 'x', None, 5, {'op': 'add'}, {'op': ['add']},
                    new('fly', '/architecture', 'x'),
                    new('add', '/architecture/x', 'x'),
                    {'op': 'add', 'path': 5}, {'add': '/architecture'}):
            patch = applied({}, raw)
            self.assertEqual(([raw], {}, []), (
                patch.operations, patch.image, patch.changes))
            self.assertEqual([''], list(changes.names(
                [raw], changes.NEW_FORM)))
        # Not for us to say what Glance says of a number.
        self.assertEqual(5, applied({}, new(
            'add', '/architecture', 5)).operations[0]['value'])

    def test_unknown(self) -> None:
        self.assertRaises(exceptions.InvalidRequest, applied, {},
                          new('add', '/img_hv_type', 'sparkle'))


class CreationTest(testtools.TestCase):

    def test_creation(self) -> None:
        self.assertEqual(
            [changes.Change('os_distro', None, 'rhel'),
             changes.Change('hw_architecture', None, 'x86_64')],
            changes.creation({'name': 'x', 'os_distro': 'rhel',
                              'hw_architecture': 'x86_64'}))
