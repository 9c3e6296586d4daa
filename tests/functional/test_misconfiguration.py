"""What cannot work is said once, plainly, and takes no uploads."""

from __future__ import annotations

from pathlib import Path
import re

from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server

#: A line of Glance's log that someone should read.
_ALARM = re.compile(r' (WARNING|ERROR|CRITICAL) easystack_image\.\S* '
                    r'\[.*?\] (?P<message>.*)')


class TestMisconfiguration(base.TestCase):
    """The store is called ``copies``; a healthy one stands beside it."""

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.temporary_directory()
        self.devices = server.make_devices(self.disks)

    def make_glance(self, store: server.Store) -> server.Glance:
        """Return a Glance with the store, and one of Glance's own beside."""
        root = self.temporary_directory()
        glance = server.Glance(
            root, [server.file_store('file', root / 'images'), store])
        self.show_log_of(glance)
        self.addCleanup(glance.stop)
        glance.prepare()
        return glance

    def init(self, devices: list[Path]) -> None:
        """Prepare devices as one set."""
        root = self.temporary_directory()
        glance = server.Glance(root, [server.block_store('copies', devices)])
        glance.prepare()
        glance.init_devices()

    def check_refused(self, store: server.Store, *words: str) -> None:
        """See one message with ``words`` in the log, and no upload taken."""
        glance = self.make_glance(store)
        glance.start()
        self.images = client.Images(glance.url)
        image_id = self.images.create()
        answer = self.images.put(image_id, b'data',
                                 X_Image_Meta_Store='copies')
        self.assertIn(answer.status_code, range(400, 600), answer.text)
        self.assertEqual('queued', self.images.show(image_id)['status'])
        self.check_message(glance, *words)
        self.assertEqual([], [path for path in self.disks.rglob('*')
                              if image_id in path.name])
        # The other stores of this Glance go on.
        data = client.content(1000)
        answer = self.images.put(image_id, data, X_Image_Meta_Store='file')
        self.assertEqual(204, answer.status_code, answer.text)
        self.check_image(image_id, data)

    def check_message(self, glance: server.Glance, *words: str) -> None:
        """See one message with ``words`` in the log."""
        messages = [match['message'] for match in
                    _ALARM.finditer(glance.log())]
        # Each worker reads the configuration for itself.
        self.assertEqual(1, len(set(messages)), messages)
        self.assertLessEqual(len(messages), glance.database.processes)
        for word in words:
            self.assertIn(word, messages[0])

    def test_no_devices(self) -> None:
        self.check_refused(server.block_store('copies', []),
                           'no device')

    def test_uninitialised_devices(self) -> None:
        self.check_refused(server.block_store('copies', self.devices),
                           str(self.devices[0]), 'device init')

    def test_one_uninitialised_device_among_enough_others(self) -> None:
        """A disk that is not mounted stops nothing, and is not written to."""
        self.init(self.devices)
        new, = server.make_devices(self.disks, 1, 'new')
        glance = self.make_glance(
            server.block_store('copies', [*self.devices, new]))
        glance.start()
        self.images = client.Images(glance.url)
        data = client.content(1000)
        self.check_image(self.images.upload(
            data, X_Image_Meta_Store='copies'), data)
        self.check_message(glance, str(new))
        self.assertEqual([], list(new.iterdir()))

    def test_foreign_device(self) -> None:
        self.init(self.devices)
        others = server.make_devices(self.disks, 3, 'other')
        self.init(others)
        self.check_refused(
            server.block_store('copies', [*self.devices, others[0]]),
            str(others[0]))

    def test_duplicate_device(self) -> None:
        self.init(self.devices)
        self.check_refused(
            server.block_store('copies', [*self.devices, self.devices[1]]),
            str(self.devices[1]))

    def test_same_device_under_another_name(self) -> None:
        self.init(self.devices)
        link = self.disks / 'link'
        link.symlink_to(self.devices[1])
        self.check_refused(
            server.block_store('copies', [*self.devices, link]),
            'the same device', 'list it once')

    def test_relative_path(self) -> None:
        self.init(self.devices)
        self.check_refused(
            server.block_store('copies', [*self.devices, Path('disk4')]),
            'disk4', 'absolute')

    def test_path_with_spaces(self) -> None:
        self.init(self.devices)
        spaced = self.disks / 'disk no 4'
        spaced.mkdir()
        self.check_refused(
            server.block_store('copies', [*self.devices, spaced]),
            str(spaced))

    def test_fewer_devices_than_copies(self) -> None:
        self.init(self.devices)
        self.check_refused(
            server.block_store('copies', self.devices, copies=4),
            '4 copies', 'only 3')

    def test_more_copies_required_than_kept(self) -> None:
        self.init(self.devices)
        self.check_refused(
            server.block_store('copies', self.devices, copies=2,
                               min_copies=3), 'min_copies')

    def test_shared_disk(self) -> None:
        self.init(self.devices)
        self.check_refused(
            server.block_store('copies', self.devices,
                               allow_shared_disk=False),
            'easystack_block_allow_shared_disk')

    def test_option_out_of_range(self) -> None:
        self.init(self.devices)
        self.check_refused(
            server.block_store('copies', self.devices, copies=0),
            'easystack_block_copies', 'Should be greater than or equal to 1')

    def test_unknown_engine(self) -> None:
        self.check_refused(
            server.block_store('copies', self.devices, engine='floppy'),
            'floppy')

    def test_init_refuses_a_used_directory(self) -> None:
        (self.devices[1] / 'precious').write_text('data')
        glance = self.make_glance(server.block_store('copies', self.devices))
        result = processes.run(
            glance.manage_command('device', 'init', store='copies'))
        self.assertNotEqual(0, result.returncode)
        self.assertIn(str(self.devices[1]), result.stdout + result.stderr)
        self.assertEqual('data', (self.devices[1] / 'precious').read_text())
        self.assertEqual(['precious'], [
            path.name for path in self.devices[1].iterdir()])

    def test_default_store_that_cannot_work(self) -> None:
        glance = server.Glance(
            self.temporary_directory(),
            [server.block_store('copies', self.devices)])
        self.addCleanup(glance.stop)
        self.show_log_of(glance)
        glance.prepare()
        glance.start()
        images = client.Images(glance.url)
        image_id = images.create()
        answer = images.put(image_id, b'data')
        self.assertIn(answer.status_code, range(400, 600), answer.text)
        self.assertEqual('queued', images.show(image_id)['status'])
        self.check_message(glance, 'device init')
