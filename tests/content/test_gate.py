"""Bad images are refused on every way in, and leave nothing behind."""

from __future__ import annotations

import hashlib
import http.client
from pathlib import Path
import time
from typing import Any, ClassVar

import requests
import sqlalchemy

from tests.content import prerequisites
from tests.corpus import bad
from tests.corpus import formats
from tests.corpus import good
from tests.functional import base
from tests.functional import client
from tests.functional import file_server
from tests.functional import processes
from tests.functional import server

#: One of each kind goes every way; all of them are sent once, and judged in
#: tests/unit.
CHOSEN = ('qcow2: backing file', 'qcow2: data file', 'qcow2: 100 bytes',
          'qcow2: virtual size 2^63', 'raw: qcow2', 'raw: vmdk, text',
          'raw: hybrid iso', 'gzip said to be raw', 'iso: also qcow2',
          'partition table: GPT and more', 'qcow2: larger than min_disk',
          'qcow2 and an iso')
GIB = 1 << 30
ERROR = 'easystack_content_error'
PROGRESS = 'easystack_download_progress'
GOOD = client.content(3 << 20, seed=1)
PATCH_TYPE = 'application/openstack-images-v2.1-json-patch'


def chosen() -> list[bad.Bad]:
    """Return those of the corpus that are sent to Glance."""
    found = [each for each in bad.corpus() if each.name in CHOSEN]
    if len(found) != len(CHOSEN):
        raise ValueError('the corpus lacks some that are chosen')
    return found


class GateCase(base.SharedGlanceCase):
    """A store of ours, one of Glance's own, and web servers."""

    files: ClassVar[file_server.FileServer]

    @classmethod
    def make_glance(cls) -> server.Glance:
        cls.files = cls.enterClassContext(file_server.FileServer())
        stores = [cls.make_store('copies', cls.root),
                  server.file_store('plain', cls.root / 'plain'),
                  server.Store('web', 'http', {})]
        return server.Glance(
            cls.root, stores,
            options={'DEFAULT': {'show_multiple_locations': True,
                                 'enabled_import_methods': '[glance-direct,'
                                 'web-download,copy-image,glance-download]'},
                     'easystack_content': {'drain_size': 8,
                                           'drain_time': 2}},
            import_options={
                'image_import_opts': {
                    'image_import_plugins': '[easystack_content]',
                    'max_parallel_stores': 2},
                'import_filtering_opts': {
                    'allowed_hosts': '[127.0.0.1]',
                    # Any.
                    'allowed_ports': '[]'}})

    def declare(self, each: bad.Bad) -> str:
        """Create an image that declares what a bad one declares."""
        return self.images.create(disk_format=each.disk_format,
                                  **each.properties)

    def check_nothing_left(self, image_id: str) -> None:
        """See that an image has nothing, and may be tried again."""
        record = self.images.show(image_id)
        self.assertEqual('queued', record['status'])
        self.assertEqual([], record['locations'])
        for name in ('size', 'virtual_size', 'checksum', 'os_hash_value'):
            self.assertIsNone(record[name], name)
        self.assertEqual([], server.files_of(self.root / 'staging',
                                             image_id))
        for store in self.glance.stores[:2]:
            self.assertEqual([], store.held(image_id))
        self.assertEqual([], self.glance.stores[0].leftovers())

    def check_refused(self, image_id: str, each: bad.Bad,
                      answer: requests.Response) -> None:
        """See an answer that says why, and nothing left."""
        self.assertIn(answer.status_code, (413, 415), answer.text)
        self.assertRegex(answer.text, each.why, each.name)
        self.assertRegex(self.images.show(image_id)[ERROR], each.why)
        self.check_nothing_left(image_id)

    def send_good(self, image_id: str) -> None:
        """Give good data to an image that was refused before."""
        data = {'raw': GOOD, 'qcow2': formats.qcow2(size=GIB),
                'iso': formats.iso()}[
                    self.images.show(image_id)['disk_format']]
        answer = self.images.put(image_id, data)
        self.assertEqual(204, answer.status_code, answer.text)
        self.check_image(image_id, data)
        self.assertNotIn(ERROR, self.images.show(image_id))
        self.images.delete(image_id)

    def tasks(self, image_id: str) -> list[dict[str, Any]]:
        """Return what Glance tells of the imports of an image."""
        answer = self.images.request('GET', f'/images/{image_id}/tasks')
        found: list[dict[str, Any]] = answer.json()['tasks']
        return found

    def staged(self, image_id: str) -> Path:
        return self.root / 'staging' / image_id


class TestUploads(GateCase):

    def test_refused_and_tried_again(self) -> None:
        for each in chosen():
            image_id = self.declare(each)
            for path in ('file', 'stage'):
                for data in (each.data, client.pieces(each.data)):
                    answer = self.images.put(image_id, data, path,
                                             Accept='application/json')
                    self.check_refused(image_id, each, answer)
            self.send_good(image_id)

    def test_all_of_the_corpus(self) -> None:
        """To one image of each kind: each refusal lets in the next."""
        images: dict[str, str] = {}
        for each in bad.corpus():
            kind = f'{each.disk_format} {each.properties}'
            if kind not in images:
                images[kind] = self.declare(each)
            image_id = images[kind]
            answer = self.images.put(image_id, each.data)
            self.assertIn(answer.status_code, (400, 413, 415), each.name)
            self.assertRegex(answer.text, each.why, each.name)
        for image_id in images.values():
            self.check_nothing_left(image_id)

    def test_nothing(self) -> None:
        """Refused by every way, where there would be a header."""
        url = self.files.serve('/nothing', b'')
        for disk_format in ('iso', 'qcow2'):
            image_id = self.images.create(disk_format=disk_format)
            for path in ('file', 'stage'):
                for data in (b'', client.pieces(b'')):
                    answer = self.images.put(image_id, data, path)
                    self.assertEqual(400, answer.status_code, answer.text)
                    self.assertIn('No data came', answer.text)
                    self.check_nothing_left(image_id)
            self.images.start_import(image_id, {'name': 'web-download',
                                                'uri': url})
            processes.poll(lambda image_id=image_id: 'os_glance_failed_import'
                           in self.images.show(image_id), 'the refusal')
            self.assertIn('No data came', self.images.show(image_id)[ERROR])
            self.check_nothing_left(image_id)
            self.send_good(image_id)
        # Glance itself refuses such a qcow2, wherever its data are.
        for properties in ({}, {'block_device_mapping': '[{}]'}):
            image_id = self.images.create(**properties)
            self.assertEqual(204, self.images.put(image_id, b'').status_code)
            self.check_image(image_id, b'')

    def test_format_that_is_not_allowed(self) -> None:
        for properties in ({'disk_format': 'vmdk'}, {'disk_format': 'ami'},
                           {'container_format': 'ova'}):
            image_id = self.images.create(**properties)
            answer = self.images.put(image_id, b'data')
            self.assertEqual(415, answer.status_code)
            self.assertIn('allowed are', answer.text)
            self.check_nothing_left(image_id)

    def test_checksum(self) -> None:
        digest = hashlib.sha512(GOOD).hexdigest()
        wrong = GOOD[:-1] + b'x'
        for properties in ({'os_hash_value': digest},
                           {'os_hash_algo': 'sha256', 'os_hash_value':
                            hashlib.sha256(GOOD).hexdigest()},
                           {'easystack_expected_hash': f'sha512:{digest}'}):
            image_id = self.images.create(**properties)
            # The first byte is with Glance already when the last is not.
            for path in ('file', 'stage'):
                for data in (wrong, client.pieces(wrong)):
                    answer = self.images.put(image_id, data, path)
                    self.assertEqual(400, answer.status_code, answer.text)
                    self.assertIn('announced was', answer.text)
                    self.check_nothing_left(image_id)
            self.send_good(image_id)
        for properties in ({'os_hash_value': 'xyz'}, {
                'os_hash_algo': 'md5', 'os_hash_value': 'a' * 32}):
            answer = self.images.request(
                'POST', '/images', json={
                    'disk_format': 'raw', 'container_format': 'bare'}
                | properties)
            self.assertEqual(400, answer.status_code)

    def test_refused_long_before_its_end(self) -> None:
        """50 GB are announced, and nobody waits for them."""
        image_id = self.images.create()
        began = time.monotonic()
        connection = self.begin(image_id, 50 << 30, formats.qcow2()
                                + bytes(2 << 20))
        try:
            answer = connection.getresponse()
            self.assertEqual(415, answer.status)
        finally:
            connection.close()
        self.assertLess(time.monotonic() - began, 30)
        self.check_nothing_left(image_id)
        self.send_good(image_id)

    def test_client_that_cannot_listen_while_it_sends(self) -> None:
        """More than is read on: the connection breaks; the reason stays."""
        image_id = self.images.create()
        data = formats.qcow2() + bytes(40 << 20)
        try:
            answer = self.images.put(image_id, data)
        except requests.ConnectionError:
            pass
        else:
            self.assertEqual(415, answer.status_code)
        self.assertIn('is qcow2', self.images.wait(
            image_id, status='queued')[ERROR])
        self.send_good(image_id)

    def begin(self, image_id: str, size: int,
              data: bytes) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(
            '127.0.0.1', self.glance.port, timeout=client.TIMEOUT)
        connection.putrequest('PUT', f'/v2/images/{image_id}/file')
        connection.putheader('Content-Type', 'application/octet-stream')
        connection.putheader('Content-Length', str(size))
        connection.endheaders()
        connection.send(data)
        return connection

    def test_odd_paths(self) -> None:
        """What Glance takes for the same, the gate does as well."""
        for path in ('file/', 'stage/', '/file', '%66ile'):
            image_id = self.images.create()
            answer = self.images.put(image_id, formats.qcow2(), path)
            self.assertIn(answer.status_code, (404, 405, 415), path)
            self.check_nothing_left(image_id)

    def test_real_images(self) -> None:
        root = self.temporary_directory()
        images = [('iso', path) for path in prerequisites.ISOS.values()] + [
            ('qcow2', path) for name, path in good.qcow2_images(root)
            if name in ('compat=0.10', 'cluster_size=2M', 'compressed zstd',
                        'bitmap')] + [
            ('raw', path) for name, path in good.raw_images(root)
            if name != 'empty']
        self.assertGreaterEqual(len(images), 9)
        for number, (disk_format, path) in enumerate(images):
            image_id = self.images.create(disk_format=disk_format)
            data = path.read_bytes()
            answer = self.images.put(
                image_id, data if number % 2 else client.pieces(data))
            self.assertEqual(204, answer.status_code, answer.text)
            self.check_image(image_id, data)


class TestImports(GateCase):

    def change_staged(self, image_id: str, data: bytes) -> None:
        """Change what is staged, behind the filter's back."""
        self.staged(image_id).write_bytes(data)

    def stage(self, image_id: str, size: int) -> None:
        answer = self.images.put(image_id, client.content(size), 'stage')
        self.assertEqual(204, answer.status_code, answer.text)

    def check_import_refused(self, image_id: str, each: bad.Bad) -> None:
        record = processes.poll(
            lambda: (shown := self.images.show(image_id)).get(ERROR)
            and shown, 'the reason')
        self.assertRegex(record[ERROR], each.why)
        self.images.wait(image_id, status='queued')
        processes.poll(lambda: 'os_glance_import_task' not in
                       self.images.show(image_id), 'the end of the import')
        self.check_nothing_left(image_id)
        self.assertEqual('', self.images.show(image_id).get(
            'os_glance_importing_to_stores', ''))
        # Another way for clients to learn it.
        tasks = self.tasks(image_id)
        self.assertEqual({'failure'}, {task['status'] for task in tasks})
        self.assertRegex(tasks[-1]['message'], each.why)

    def test_plugin(self) -> None:
        """What is bad only once it is staged, for one store and several."""
        for number, each in enumerate(chosen()):
            image_id = self.declare(each)
            stand_in = {'qcow2': formats.qcow2(), 'iso': formats.iso(),
                        'raw': GOOD}[each.disk_format]
            answer = self.images.put(image_id, stand_in, 'stage')
            self.assertEqual(204, answer.status_code, answer.text)
            self.change_staged(image_id, each.data)
            self.images.start_import(
                image_id, {'name': 'glance-direct'},
                stores=['copies', 'plain'] if number % 2 else ['copies'])
            self.check_import_refused(image_id, each)
            self.send_good(image_id)

    def test_checksum_of_what_is_staged(self) -> None:
        image_id = self.images.create(
            os_hash_value=hashlib.sha512(GOOD).hexdigest())
        answer = self.images.put(image_id, GOOD, 'stage')
        self.assertEqual(204, answer.status_code, answer.text)
        self.change_staged(image_id, GOOD[:-1] + b'x')
        self.images.start_import(image_id, {'name': 'glance-direct'})
        self.check_import_refused(image_id, bad.Bad('', '', b'',
                                                    'announced was'))
        self.send_good(image_id)

    def test_good_import_after_a_bad_one(self) -> None:
        image_id = self.images.create()
        each = next(each for each in chosen() if each.name == 'raw: qcow2')
        for stores in (['copies'], ['copies', 'plain']):
            self.stage(image_id, 5000)
            self.change_staged(image_id, each.data)
            self.images.start_import(image_id, {'name': 'glance-direct'},
                                     stores=stores)
            self.check_import_refused(image_id, each)
        self.assertEqual(204, self.images.put(image_id, GOOD,
                                              'stage').status_code)
        self.images.start_import(image_id, {'name': 'glance-direct'},
                                 stores=['copies', 'plain'])
        record = self.images.wait(image_id, status='active')
        self.check_image(image_id, GOOD)
        self.assertNotIn(ERROR, record)
        self.assertEqual(len(GOOD), record['virtual_size'])

    def test_web_download(self) -> None:
        for number, each in enumerate(chosen()):
            url = self.files.serve(f'/{number}', each.data)
            image_id = self.declare(each)
            self.images.start_import(image_id, {'name': 'web-download',
                                                'uri': url})
            self.check_import_refused(image_id, each)
            self.send_good(image_id)

    def test_good_web_download_to_two_stores(self) -> None:
        url = self.files.serve('/good', GOOD)
        image_id = self.images.create(
            os_hash_value=hashlib.sha512(GOOD).hexdigest())
        self.images.start_import(
            image_id, {'name': 'web-download', 'uri': url},
            stores=['copies', 'plain'])
        record = self.images.wait(image_id, status='active')
        self.check_image(image_id, GOOD)
        self.assertEqual({'copies', 'plain'},
                         set(record['stores'].split(',')))
        self.assertEqual({'success'}, {
            task['status'] for task in self.tasks(image_id)})
        for name in (ERROR, 'easystack_download_progress'):
            self.assertNotIn(name, record)

    def test_web_download_with_another_checksum(self) -> None:
        url = self.files.serve('/other', GOOD + b'x')
        image_id = self.images.create(
            os_hash_value=hashlib.sha512(GOOD).hexdigest())
        self.images.start_import(image_id, {'name': 'web-download',
                                            'uri': url})
        self.check_import_refused(image_id, bad.Bad('', '', b'',
                                                    'announced was'))

    def test_glance_download_needs_a_catalogue(self) -> None:
        """It is the plugin's to judge; here it fails before that."""
        image_id = self.images.create()
        answer = self.images.request(
            'POST', f'/images/{image_id}/import', json={'method': {
                'name': 'glance-download', 'glance_region': 'other',
                'glance_image_id': image_id}})
        self.assertEqual(202, answer.status_code, answer.text)
        self.images.wait(image_id, status='queued')


class TestQuota(GateCase):
    """What may be staged, and not be stored."""

    @classmethod
    def make_glance(cls) -> server.Glance:
        glance = super().make_glance()
        glance.options['DEFAULT'] |= {'user_storage_quota': '1MB'}
        return glance

    def test_import(self) -> None:
        """By both ways, and the image may be tried again."""
        image_id = self.images.create()
        url = self.files.serve('/large', GOOD)
        for method in ({'name': 'glance-direct'},
                       {'name': 'web-download', 'uri': url}):
            if method['name'] == 'glance-direct':
                answer = self.images.put(image_id, GOOD, 'stage')
                self.assertEqual(204, answer.status_code, answer.text)
            self.images.start_import(image_id, method)
            record = processes.poll(
                lambda: (shown := self.images.show(image_id))['status'] ==
                'queued' and 'could not be stored' in shown.get(ERROR, '')
                and 'os_glance_import_task' not in shown and shown,
                f'the end of {method}')
            self.assertEqual('copies', record['os_glance_failed_import'])
            self.check_nothing_left(image_id)
            self.change(image_id, op='remove', path=f'/{ERROR}')
        self.send_small(image_id)

    def change(self, image_id: str, **operation: str) -> None:
        answer = self.images.request(
            'PATCH', f'/images/{image_id}', json=[operation],
            headers={'Content-Type': PATCH_TYPE})
        self.assertEqual(200, answer.status_code, answer.text)

    def send_small(self, image_id: str) -> None:
        data = client.content(5000)
        self.assertEqual(204, self.images.put(image_id, data,
                                              'stage').status_code)
        self.images.start_import(image_id, {'name': 'glance-direct'})
        self.images.wait(image_id, status='active')
        self.check_image(image_id, data)


class TestOtherOrigins(GateCase):

    def test_copy_image(self) -> None:
        for each in chosen():
            if each.properties or len(each.data) > len(GOOD):
                continue
            image_id = self.images.create(disk_format=each.disk_format)
            stand_in = {'qcow2': formats.qcow2(), 'iso': formats.iso(),
                        'raw': GOOD}[each.disk_format]
            self.images.put(image_id, stand_in, X_Image_Meta_Store='plain')
            path = self.root / 'plain' / image_id
            path.write_bytes(each.data.ljust(len(stand_in), b'\0')[
                :len(stand_in)])
            answer = self.images.request(
                'POST', f'/images/{image_id}/import',
                headers={'Accept': 'application/json'},
                json={'method': {'name': 'copy-image'},
                      'stores': ['copies']})
            self.assertIn(answer.status_code, (413, 415), each.name)
            record = self.images.show(image_id)
            self.assertEqual(('active', 'plain'),
                             (record['status'], record['stores']))
            self.assertEqual([], self.glance.stores[0].held(image_id))

    def test_good_copy(self) -> None:
        image_id = self.images.create()
        self.images.put(image_id, GOOD, X_Image_Meta_Store='plain')
        self.images.start_import(image_id, {'name': 'copy-image'},
                                 stores=['copies'])
        processes.poll(lambda: 'copies' in self.images.show(
            image_id)['stores'], 'the copy')
        self.check_image(image_id, GOOD)

    def add_location(self, image_id: str, url: str) -> requests.Response:
        return self.images.request(
            'PATCH', f'/images/{image_id}', json=[
                {'op': 'add', 'path': '/locations/-',
                 'value': {'url': url, 'metadata': {}}}],
            headers={'Content-Type': PATCH_TYPE,
                     'Accept': 'application/json'})

    def test_locations(self) -> None:
        for number, each in enumerate(chosen()):
            url = self.files.serve(f'/location{number}', each.data)
            image_id = self.declare(each)
            for answer in (
                    self.add_location(image_id, url),
                    self.images.request(
                        'POST', f'/images/{image_id}/locations',
                        json={'url': url},
                        headers={'Accept': 'application/json'})):
                self.assertIn(answer.status_code, (413, 415), each.name)
                self.assertRegex(answer.text, each.why)
                self.check_nothing_left(image_id)

    def test_good_location(self) -> None:
        url = self.files.serve('/location', GOOD)
        image_id = self.images.create()
        answer = self.add_location(image_id, url)
        self.assertEqual(200, answer.status_code, answer.text)
        self.assertEqual('active', self.images.show(image_id)['status'])

    def test_location_that_cannot_be_read(self) -> None:
        image_id = self.images.create()
        for url in ('ftp://127.0.0.1/x', 'rbd://a/b/c/d', 'nonsense',
                    f'http://127.0.0.1:{self.files.port}/absent'):
            answer = self.add_location(image_id, url)
            self.assertIn(answer.status_code, (400, 415), answer.text)
            self.check_nothing_left(image_id)

    def test_files_of_the_host(self) -> None:
        """No answer tells whether there is one, or what is in it."""
        image_id = self.images.create()
        there = self.root / 'plain' / 'secret'
        there.write_bytes(formats.qcow2())
        answers = {(answer.status_code, answer.text)
                   for path in (there, there.with_name('absent'))
                   for answer in (
                       self.add_location(image_id, f'file://{path}'),
                       self.images.request(
                           'POST', f'/images/{image_id}/locations',
                           json={'url': f'file://{path}'},
                           headers={'Accept': 'application/json'}))}
        status, text = answers.pop()
        self.assertEqual((set(), 400), (answers, status), text)
        self.assertIn('scheme file', text)
        self.check_nothing_left(image_id)

    def test_tasks(self) -> None:
        answer = self.images.request('POST', '/tasks', json={
            'type': 'import', 'input': {
                'import_from': self.files.serve('/task', GOOD),
                'import_from_format': 'raw', 'image_properties': {
                    'disk_format': 'raw', 'container_format': 'bare'}}})
        self.assertEqual(403, answer.status_code, answer.text)
        self.assertIn('web-download', answer.text)


class TestSlowDownload(GateCase):

    def test_progress(self) -> None:
        """Whoever waits can see how long he will."""
        image_id = self.images.create()
        data = client.content(40 << 20)
        with file_server.FileServer() as slow:
            url = slow.serve('/slow', data, rate=4 << 20)
            self.images.start_import(image_id, {'name': 'web-download',
                                                'uri': url})
            seen = set()
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                record = self.images.show(image_id)
                seen.add(record.get('easystack_download_progress'))
                if record['status'] == 'active':
                    break
                time.sleep(0.2)
        self.check_image(image_id, data)
        percent = sorted(int(each) for each in seen if each)
        self.assertGreaterEqual(len(percent), 3, percent)
        self.assertTrue(all(0 <= each <= 100 for each in percent), percent)

    def test_worker_that_is_killed(self) -> None:
        """What it left is mended for whoever looks, when it is certain."""
        image_id = self.images.create()
        with file_server.FileServer() as slow:
            url = slow.serve('/slow', client.content(40 << 20),
                             rate=4 << 20)
            self.images.start_import(image_id, {'name': 'web-download',
                                                'uri': url})
            processes.poll(lambda: self.images.show(image_id).get(
                PROGRESS, '0') != '0', 'progress')
            self.glance.kill()
        self.glance.start()
        self.assertIn(PROGRESS, self.images.show(image_id))
        task, = self.tasks(image_id)
        self.assertEqual('processing', task['status'])
        self.make_old()
        record = self.images.show(image_id)
        self.assertNotIn(PROGRESS, record)
        self.assertIn('Delete the image and begin again', record[ERROR])
        task, = self.tasks(image_id)
        self.assertEqual(('failure', record[ERROR]),
                         (task['status'], task['message']))
        self.images.delete(image_id)

    def make_old(self) -> None:
        """As if time had passed."""
        engine = sqlalchemy.create_engine(self.glance.connection)
        try:
            with engine.begin() as connection:
                for table in ('images', 'tasks'):
                    connection.execute(sqlalchemy.text(
                        f'update {table} '  # noqa: S608
                        "set updated_at = '2020-01-01 00:00:00'"))
        finally:
            engine.dispose()

    def test_two_at_once(self) -> None:
        """The second finds that it is too late, and does no harm."""
        image_id = self.images.create()
        data = client.content(12 << 20)
        with file_server.FileServer() as slow:
            url = slow.serve('/slow', data, rate=4 << 20)
            for _ in range(2):
                self.images.start_import(image_id, {'name': 'web-download',
                                                    'uri': url})
            record = self.images.wait(image_id, status='active')
        self.check_image(image_id, data)
        self.assertNotIn(ERROR, record)
        self.assertEqual(['failure', 'success', 'success'], sorted(
            task['status'] for task in self.tasks(image_id)))
