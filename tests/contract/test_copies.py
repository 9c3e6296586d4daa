"""The state of the copies, and its repair."""

from __future__ import annotations

import contextlib
import threading
import time

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from tests.contract import base
from tests.contract import sources
from tests.contract.sources import noise

load_tests = base.load_tests


class CopiesTest(base.ContractTest):
    """Tests that begin with one image, and know where its copies are."""

    def setUp(self) -> None:
        super().setUp()
        self.data = noise(self.chunk + self.block + 5)
        self.image = self.image_id()
        self.stored = self.engine.write(
            self.image, sources.Source(self.data))
        self.holders = self.lab.holders(self.image)
        self.spare = min(set(self.lab.devices) - set(self.holders),
                         default='')

    def assertRepaired(self, copies: list[engine_module.Copy] | None = None,
                       ) -> None:
        """Check that three copies are whole, and none is anything else."""
        for found in (copies, self.engine.list_copies(self.image),
                      self.engine.list_copies(self.image, verify=True)):
            if found is not None:
                self.assertEqual([base.GOOD] * 3,
                                 [copy.state for copy in found])
        for device in self.lab.holders(self.image):
            self.assertTrue(
                self.lab.content(device, self.image) == self.data)
        self.assertEqual(3, len(self.lab.holders(self.image)))
        self.assertStored(self.stored, self.data)
        self.assertEqual([], self.lab.leftovers())

    def over_replicate(self) -> None:
        """Give all four devices a copy, as if one came back from repair."""
        self.lab.take_away(self.holders[0])
        self.engine.repair(self.image)
        self.lab.bring_back(self.holders[0])
        self.assertEqual(self.lab.devices, self.lab.holders(self.image))


class ListTest(CopiesTest):

    def test_good(self) -> None:
        for verify in (False, True):
            copies = self.engine.list_copies(self.image, verify=verify)
            self.assertEqual(set(self.holders),
                             {copy.device for copy in copies})
            zones = {info.device: info.zone for info in
                     self.engine.devices()}
            for copy in copies:
                self.assertIs(base.GOOD, copy.state)
                self.assertEqual('', copy.reason)
                # A cluster puts the parts of a copy into many zones.
                self.assertIn(zones[copy.device], (copy.zone, ''))
                if copy.path:
                    with open(copy.path, 'rb') as file:
                        self.assertTrue(file.read() == self.data)

    @base.of_single_copies
    def test_missing(self) -> None:
        self.lab.drop(self.holders[0], self.image)
        for verify in (False, True):
            copies = self.engine.list_copies(self.image, verify=verify)
            self.assertEqual(3, len(copies))
            self.assertEqual(
                set(self.holders[1:]), {copy.device for copy in copies
                                        if copy.state is base.GOOD})
            missing, = (copy for copy in copies
                        if copy.state is base.MISSING)
            self.assertIn(missing.device, [self.holders[0], self.spare])
            self.assertNotEqual('', missing.reason)

    @base.of_single_copies
    def test_damaged(self) -> None:
        for offset in (0, self.block, len(self.data) - 1):
            self.lab.damage(self.holders[1], self.image, offset)
            states = self.states(self.image, verify=True)
            self.assertIs(base.DAMAGED, states[self.holders[1]])
            self.assertIs(base.GOOD, states[self.holders[0]])
            self.lab.damage(self.holders[1], self.image, offset)
        for copy in self.engine.list_copies(self.image, verify=True):
            # The same byte changed twice is as it was.
            self.assertIs(base.GOOD, copy.state)

    def test_damaged_says_why(self) -> None:
        self.lab.damage(self.holders[1], self.image, 0)
        reasons = {copy.device: copy.reason for copy in
                   self.engine.list_copies(self.image, verify=True)}
        self.assertNotEqual('', reasons[self.holders[1]])

    def test_all_damaged(self) -> None:
        for device in self.holders:
            self.lab.damage(device, self.image, 0)
        states = self.states(self.image, verify=True)
        for device in self.holders:
            self.assertIs(base.DAMAGED, states[device])

    @base.of_single_copies
    def test_unreachable(self) -> None:
        self.lab.take_away(self.holders[2])
        for verify in (False, True):
            copies = self.engine.list_copies(self.image, verify=verify)
            self.assertGreaterEqual(len(copies), 3)
            states = {copy.device: copy.state for copy in copies}
            self.assertIs(base.UNREACHABLE, states[self.holders[2]])
            self.assertIs(base.GOOD, states[self.holders[0]])

    @base.of_single_copies
    def test_one_entry_per_device(self) -> None:
        self.lab.take_away(self.holders[0])
        self.lab.drop(self.holders[1], self.image)
        self.lab.damage(self.holders[2], self.image, 0)
        devices = [copy.device for copy in
                   self.engine.list_copies(self.image, verify=True)]
        self.assertEqual(sorted(self.lab.devices), sorted(devices))

    def test_unknown(self) -> None:
        for verify in (False, True):
            self.assertRaises(exceptions.ImageNotFound,
                              self.engine.list_copies, self.image_id(),
                              verify=verify)


class RequestTest(CopiesTest):
    """A repair that somebody asks for, and nobody waits for."""

    @base.of_single_copies
    def test_it_is_done(self) -> None:
        engine = self.lab.engine(self_repair=True)
        self.lab.damage(self.holders[0], self.image, self.block + 1)
        began = time.time()
        engine.request_repair(self.image)
        base.eventually(
            lambda: engine.repair_requested_at(self.image) is None,
            'it is repaired')
        self.assertRepaired()
        self.assertEqual(1, self.lab.put_aside(self.image))
        for copy in self.engine.list_copies(self.image):
            if copy.verified_at:
                # The clock of a file system may be a tick behind.
                self.assertGreaterEqual(copy.verified_at, began - 0.02)

    def test_it_can_be_followed(self) -> None:
        self.assertIsNone(self.engine.repair_requested_at(self.image))
        began = time.time()
        self.engine.request_repair(self.image)
        requested = self.engine.repair_requested_at(self.image)
        self.assertGreaterEqual(requested, began - 0.02)
        self.assertLessEqual(requested, time.time())
        self.engine.request_repair(self.image)
        self.assertGreaterEqual(
            self.engine.repair_requested_at(self.image), requested)
        # It is this image's, and nobody else's.
        other = self.image_id()
        self.engine.write(other, sources.Source(b'data'))
        self.assertIsNone(self.engine.repair_requested_at(other))
        self.engine.repair(self.image)
        self.assertIsNone(self.engine.repair_requested_at(self.image))

    @base.of_single_copies
    def test_it_is_in_vain(self) -> None:
        """That is known, and no repair is to come from it."""
        for holder in self.holders:
            self.lab.damage(holder, self.image, self.block + 1)
        self.engine.request_repair(self.image)
        self.assertIsNone(self.engine.repair_attempt(self.image))
        began = time.time()
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        attempt = self.engine.repair_attempt(self.image)
        self.assertTrue(attempt.lost)
        self.assertNotEqual('', attempt.reason)
        self.assertLessEqual(began, attempt.ended_at)
        # Who asks again waits for another answer.
        time.sleep(0.05)
        self.engine.request_repair(self.image)
        self.assertIsNone(self.engine.repair_attempt(self.image))

    def test_unknown(self) -> None:
        self.assertRaises(exceptions.ImageNotFound,
                          self.engine.request_repair, self.image_id())
        self.assertIsNone(self.engine.repair_requested_at(self.image_id()))

    def test_no_problems(self) -> None:
        for problem in self.engine.problems():
            self.assertFalse(problem.outage, problem)
            self.assertNotEqual('', problem.message)


class RepairTest(CopiesTest):

    def test_nothing_to_do(self) -> None:
        self.assertRepaired(self.engine.repair(self.image))
        self.assertEqual(self.holders, self.lab.holders(self.image))
        self.assertEqual(0, self.lab.put_aside(self.image))

    @base.of_single_copies
    def test_dropped(self) -> None:
        for count in (1, 2):
            for device in self.lab.holders(self.image)[:count]:
                self.lab.drop(device, self.image)
            self.assertRepaired(self.engine.repair(self.image))
        self.assertEqual(0, self.lab.put_aside(self.image))

    @base.of_single_copies
    def test_damaged(self) -> None:
        for number, offset in enumerate(
                (0, self.block - 1, self.block, len(self.data) - 1), 1):
            self.lab.damage(self.lab.holders(self.image)[0], self.image,
                            offset)
            self.assertRepaired(self.engine.repair(self.image))
            # Put aside, not deleted.
            self.assertEqual(number, self.lab.put_aside(self.image))

    @base.of_single_copies
    def test_damaged_and_dropped(self) -> None:
        self.lab.damage(self.holders[0], self.image, 5)
        self.lab.drop(self.holders[1], self.image)
        self.assertRepaired(self.engine.repair(self.image))
        self.assertEqual(1, self.lab.put_aside(self.image))

    @base.of_single_copies
    def test_no_copy_is_whole_but_each_block_is_somewhere(self) -> None:
        for number, device in enumerate(self.holders):
            self.lab.damage(device, self.image, number * self.block)
        self.assertRepaired(self.engine.repair(self.image))
        self.assertEqual(3, self.lab.put_aside(self.image))

    def test_nothing_left_to_repair_from(self) -> None:
        for device in self.holders:
            self.lab.damage(device, self.image, self.block + 1)
        before = {device: self.lab.content(device, self.image)
                  for device in self.lab.devices}
        with base.nothing_left_behind():
            self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                              self.image)
        for device in self.lab.devices:
            self.assertTrue(before[device] ==
                            self.lab.content(device, self.image))
        self.assertEqual(0, self.lab.put_aside(self.image))
        self.assertEqual([], self.lab.leftovers())

    @base.of_single_copies
    def test_empty_image(self) -> None:
        image_id = self.image_id()
        info = self.engine.write(image_id, sources.Source(b''))
        for device in self.lab.holders(image_id)[:2]:
            self.lab.drop(device, image_id)
        self.engine.repair(image_id)
        self.assertEqual(3, len(self.good(image_id)))
        self.assertStored(info, b'')

    def test_unknown(self) -> None:
        self.assertRaises(exceptions.ImageNotFound, self.engine.repair,
                          self.image_id())

    @base.of_single_copies
    def test_spare_device_takes_over(self) -> None:
        self.lab.take_away(self.holders[0])
        copies = self.engine.repair(self.image)
        self.assertEqual(
            {*self.holders[1:], self.spare},
            {copy.device for copy in copies if copy.state is base.GOOD})
        self.assertStored(self.stored, self.data)

    @base.of_single_copies
    def test_as_many_as_there_are_devices(self) -> None:
        self.lab.take_away(self.spare)
        self.lab.take_away(self.holders[0])
        copies = self.engine.repair(self.image)
        self.assertEqual(
            set(self.holders[1:]),
            {copy.device for copy in copies if copy.state is base.GOOD})
        self.lab.bring_back(self.spare)
        self.lab.bring_back(self.holders[0])
        self.assertRepaired(self.engine.repair(self.image))

    @base.of_single_copies
    def test_damaged_copy_that_is_one_too_many(self) -> None:
        self.over_replicate()
        for device in self.holders[:2]:
            self.lab.damage(device, self.image, 3)
            self.engine.repair(self.image)
            self.assertNotIn(base.DAMAGED, self.states(
                self.image, verify=True).values())
            self.assertEqual(3, len(self.good(self.image)))

    @base.of_single_copies
    def test_missing_and_damaged_where_there_was_one_too_many(self) -> None:
        self.over_replicate()
        self.lab.damage(self.holders[0], self.image, 3)
        self.lab.damage(self.holders[1], self.image, self.block)
        self.engine.repair(self.image)
        self.assertNotIn(base.DAMAGED, self.states(
            self.image, verify=True).values())
        self.assertEqual(3, len(self.good(self.image)))
        self.assertEqual(2, self.lab.put_aside(self.image))

    @base.of_single_copies
    def test_full_device(self) -> None:
        # No copy can be made there, and none is lost by trying.
        for device in (self.spare, self.holders[0]):
            self.lab.fill(device)
        self.lab.damage(self.holders[0], self.image, 0)
        with contextlib.suppress(exceptions.BlockStoreError):
            self.engine.repair(self.image)
        self.assertEqual(set(self.holders[1:]), set(self.good(self.image)))
        self.assertStored(self.stored, self.data)
        for device in (self.spare, self.holders[0]):
            self.lab.make_room(device)
        self.assertRepaired(self.engine.repair(self.image))

    @base.of_single_copies
    def test_leaves_no_thread_nor_file(self) -> None:
        self.lab.damage(self.holders[0], self.image, self.chunk)
        self.lab.drop(self.holders[1], self.image)
        with base.nothing_left_behind():
            self.engine.list_copies(self.image, verify=True)
            self.engine.repair(self.image)

    @base.of_single_copies
    def test_several_at_once(self) -> None:
        self.lab.damage(self.holders[0], self.image, self.chunk)
        self.lab.drop(self.holders[1], self.image)
        errors: list[BaseException] = []

        def repair(engine: engine_module.Engine) -> None:
            try:
                engine.repair(self.image)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=repair, args=[self.lab.engine()])
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], errors)
        self.assertRepaired()
        self.assertEqual(1, self.lab.put_aside(self.image))


@base.of_single_copies
class SelfRepairTest(CopiesTest):
    """What is noticed in passing is repaired without being asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = self.lab.engine(self_repair=True)

    def assertRepairs(self, copies: int = 3) -> None:
        observer = self.lab.engine()
        base.eventually(lambda: len(self.good(self.image, observer))
                        == copies, f'{copies} good copies')
        self.assertStored(self.stored, self.data)

    def test_damage_that_was_read(self) -> None:
        # In every copy, so that whichever is read is found out.
        for number, device in enumerate(self.holders):
            self.lab.damage(device, self.image, number * self.block)
        self.assertTrue(self.read(self.image) == self.data)
        self.assertRepairs()

    def test_loss_that_was_met(self) -> None:
        for device in self.holders[:2]:
            self.lab.drop(device, self.image)
        self.assertTrue(self.read(self.image) == self.data)
        self.assertRepairs()

    def test_copies_that_an_upload_could_not_make(self) -> None:
        for device in self.lab.devices[:2]:
            self.lab.take_away(device)
        image_id, data = self.image_id(), noise(self.block)
        self.engine.write(image_id, sources.Source(data))
        for device in self.lab.devices[:2]:
            self.lab.bring_back(device)
        self.assertTrue(self.read(image_id) == data)
        observer = self.lab.engine()
        base.eventually(lambda: len(self.good(image_id, observer)) == 3,
                        'three good copies')

    def test_not_when_it_is_switched_off(self) -> None:
        engine = self.lab.engine(self_repair=False)
        self.lab.drop(self.holders[0], self.image)
        with base.nothing_left_behind():
            self.assertTrue(
                self.read(self.image, engine=engine) == self.data)
        self.assertEqual(self.holders[1:], self.lab.holders(self.image))
