"""What devices remember of each other."""

from __future__ import annotations

import dataclasses
import json
import os

from easystack_image import exceptions
from easystack_image.blockstore.local import members
from tests.contract import local
from tests.unit.blockstore.local import base


class MembersTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.ids = [local.identity(number).device_id for number in range(4)]
        self.members = members.Members(self.fleet())
        self.addCleanup(self.clean_up)

    def clean_up(self) -> None:
        for device in self.devices:
            path = self.file(device)
            if os.path.lexists(path):
                os.unlink(path)

    def file(self, device: str) -> str:
        return f'{self.lab.root(device)}/{members.MEMBERS}'

    def known(self) -> dict[str, members.Member]:
        """Return what a process that just started knows."""
        return members.Members(self.fleet()).known()

    def test_remembered_while_it_is_away(self) -> None:
        self.assertEqual(set(self.ids), set(self.members.refresh()))
        self.lab.take_away(self.devices[0])
        known = self.known()[self.ids[0]]
        self.assertEqual(self.devices[0], known.path)
        self.assertEqual(local.identity(0), known.identity)

    def test_process_knows_those_that_are_away(self) -> None:
        self.members.refresh()
        self.lab.take_away(self.devices[0])
        fleet = self.fleet()
        self.assertIsNone(fleet.devices[self.devices[0]].known)
        members.Members(fleet).known()
        self.assertEqual(local.identity(0),
                         fleet.devices[self.devices[0]].known)
        self.assertEqual({self.devices[0]},
                         fleet.awaited([self.devices[0]]))

    def test_damaged_on_some(self) -> None:
        self.members.refresh()
        self.lab.take_away(self.devices[0])
        with open(self.file(self.devices[1]), 'rb') as file:
            data = file.read()
        for damage in (b'', b'{}', b'[]', b'\xff', data[:-9], b'null',
                       data.replace(b'zone0', b'zone9'),
                       data.replace(b'"format": 1', b'"format": 2')):
            with open(self.file(self.devices[1]), 'wb') as file:
                file.write(damage)
            self.assertEqual(set(self.ids), set(self.known()), damage)
            self.assertIn('is not used', self.log.output)
            # And mended.
            self.members.refresh()
            with open(self.file(self.devices[1]), 'rb') as file:
                self.assertEqual(set(self.ids),
                                 set(members.read_back(file.read()).members))

    def test_missing_everywhere(self) -> None:
        self.members.refresh()
        self.clean_up()
        self.lab.take_away(self.devices[0])
        self.assertEqual(set(self.ids[1:]), set(self.known()))

    def test_the_newest_counts(self) -> None:
        self.members.refresh()
        self.lab.take_away(self.devices[3])
        older = members.read_back(self.read(self.devices[1]))
        changed = dict(older.members)
        changed[self.ids[3]] = members.Member(
            self.devices[3], dataclasses.replace(local.identity(3),
                                                 weight=7.0))
        for device, age in ((self.devices[0], 5.0), (self.devices[2], -5.0)):
            with open(self.file(device), 'wb') as file:
                file.write(members.write_down(members.Memory(
                    older.written_at + age,
                    changed if age > 0 else older.members, older.gone)))
        self.assertEqual(7.0, self.known()[self.ids[3]].identity.weight)

    def read(self, device: str) -> bytes:
        with open(self.file(device), 'rb') as file:
            return file.read()

    def test_written_only_when_something_changed(self) -> None:
        self.members.refresh()
        before = [os.stat(self.file(device)).st_ino
                  for device in self.devices]
        self.members.refresh()
        self.assertEqual(before, [os.stat(self.file(device)).st_ino
                                  for device in self.devices])

    def test_gone(self) -> None:
        self.members.refresh()
        self.lab.take_away(self.devices[0])
        self.lab.take_away(self.devices[1])
        left = self.members.refresh(forget=self.ids[0])
        self.assertEqual(set(self.ids[1:]), set(left))
        # One that missed it does not bring it back.
        self.lab.bring_back(self.devices[1])
        self.assertEqual(set(self.ids[1:]), set(self.members.refresh()))
        self.assertEqual(set(self.ids[1:]),
                         set(members.read_back(
                self.read(self.devices[1])).members))
        # It can come back itself.
        self.lab.bring_back(self.devices[0])
        self.assertEqual(set(self.ids), set(self.members.refresh()))
        self.lab.take_away(self.devices[0])
        self.assertEqual(set(self.ids), set(self.known()))

    def test_file_of_the_documentation(self) -> None:
        self.members.refresh()
        fields = json.loads(self.read(self.devices[0]))
        self.assertEqual({'format', 'written_at', 'sha256', 'members',
                          'gone'}, set(fields))
        self.assertEqual(
            {'path', *(field.name for field in
                       dataclasses.fields(local.identity(0)))},
            set(fields['members'][0]))

    def test_last_at(self) -> None:
        known = self.members.known()
        self.assertEqual(self.ids[2], members.last_at(
            known, self.devices[2]).identity.device_id)
        self.assertRaises(exceptions.ConfigurationError, members.last_at,
                          known, '/nowhere')
        two = dict(known)
        two['x'] = members.Member(self.devices[2], dataclasses.replace(
            local.identity(2), device_id='x'))
        error = self.assertRaises(
            exceptions.ConfigurationError, members.last_at, two,
            self.devices[2], {self.ids[2]})
        self.assertIn(f'{self.ids[2]} (is there)', str(error))
        two['x'] = members.Member(self.devices[2], dataclasses.replace(
            local.identity(2), device_id='x', replaces=self.ids[2]))
        self.assertEqual('x', members.last_at(
            two, self.devices[2]).identity.device_id)
