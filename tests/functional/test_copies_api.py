"""The copies of an image over HTTP, as an administrator sees them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
import time
from typing import Any
import uuid

import requests

from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server
from tests.functional import test_damage

MEMBER = {'X-Roles': 'member,reader'}
STRANGER = MEMBER | {'X-Project-Id': 'c0ffee00000000000000000000000009',
                     'X-User-Id': 'c0ffee00000000000000000000000008'}
BLOCK = test_damage.BLOCK
PATCH = 'application/openstack-images-v2.1-json-patch'
PUBLISH = [{'op': 'replace', 'path': '/visibility', 'value': 'public'}]


def when(text: str) -> float:
    """Return the seconds since the epoch of a time in ISO 8601."""
    assert text.endswith('Z'), text
    return datetime.datetime.fromisoformat(text).timestamp()


class CopiesCase(base.SharedGlanceCase):
    """A store of ours, and one of Glance's own."""

    @classmethod
    def make_glance(cls) -> server.Glance:
        stores = [server.block_store('copies', server.make_devices(cls.root),
                                     # What a worker leaves, another finds.
                                     sweep_interval=5),
                  server.file_store('plain', cls.root / 'plain')]
        (cls.root / 'policy.yaml').write_text('')
        (cls.root / 'policy.d').mkdir()
        return server.Glance(cls.root, stores, options={
            'oslo_policy': {'policy_file': cls.root / 'policy.yaml',
                            'policy_dirs': cls.root / 'policy.d'}})

    def ask(self, image_id: str, what: str = '', method: str = 'GET',
            **arguments: Any) -> requests.Response:
        return self.images.request(
            method, f'/images/{image_id}/copies{what}', **arguments)

    def copies(self, image_id: str) -> dict[str, Any]:
        """Return what is shown of an image."""
        answer = self.ask(image_id)
        self.assertEqual(200, answer.status_code, answer.text)
        self.assertEqual('application/json',
                         answer.headers['Content-Type'].partition(';')[0])
        self.assertEqual(len(answer.content),
                         int(answer.headers['Content-Length']))
        self.assertIn('x-openstack-request-id', answer.headers)
        record: dict[str, Any] = answer.json()
        return record


class TestShow(CopiesCase):

    def test_three_good_copies(self) -> None:
        before = time.time()
        image_id = self.images.upload(client.content(12345))
        record = self.copies(image_id)
        self.assertEqual(image_id, record['image_id'])
        verification = record['verification']
        self.assertGreaterEqual(when(verification.pop('ended_at')),
                                before - 1)
        self.assertEqual(
            {'pending': False, 'requested_at': None, 'result': 'verified',
             'reason': ''}, verification)
        store, = record['stores']
        self.assertEqual(('copies', 3, 2, ''), (
            store['store'], store['wanted'], store['minimum'],
            store['error']))
        self.assertEqual(
            {str(path) for path in server.devices(self.glance.stores[0])},
            {copy['device'] for copy in store['copies']})
        self.assertEqual(3, len({copy['zone'] for copy in store['copies']}))
        for copy in store['copies']:
            self.assertEqual(('good', '', 12345), (
                copy['state'], copy['reason'], copy['bytes']))
            self.assertGreaterEqual(when(copy['verified_at']), before - 1)
            self.assertLessEqual(when(copy['verified_at']), time.time())

    def test_any_version(self) -> None:
        image_id = self.images.upload(b'data')
        url = self.images.url.removesuffix('v2')
        for version in ('v2.0', 'v2.17'):
            answer = requests.get(f'{url}{version}/images/{image_id}/copies',
                                  timeout=60)
            self.assertEqual(200, answer.status_code, answer.text)
            self.assertEqual(self.copies(image_id), answer.json())

    def test_lost_copy(self) -> None:
        image_id = self.images.upload(b'data')
        first = self.copies(image_id)['stores'][0]['copies'][0]
        data = server.data_file(Path(first['device']), image_id)
        data.write_bytes(b'more data')
        states = {copy['device']: copy for copy in
                  self.copies(image_id)['stores'][0]['copies']}
        damaged = states.pop(first['device'])
        self.assertEqual('damaged', damaged['state'])
        self.assertIn('9 bytes', damaged['reason'])
        self.assertEqual(['good', 'good'],
                         [copy['state'] for copy in states.values()])

    def test_device_that_is_away(self) -> None:
        image_id = self.images.upload(b'data')
        device = server.devices(self.glance.stores[0])[1]
        device.rename(device.with_name('away'))
        try:
            listed = self.copies(image_id)['stores'][0]['copies']
        finally:
            device.with_name('away').rename(device)
        copy, = (copy for copy in listed if copy['device'] == str(device))
        self.assertEqual(('unreachable', None, 0), (
            copy['state'], copy['verified_at'], copy['bytes']))

    def test_all_copies_are_lost(self) -> None:
        """Glance believes that it has the image; this tells."""
        image_id = self.images.upload(b'data')
        for copy in self.copies(image_id)['stores'][0]['copies']:
            path = server.copy_directory(Path(copy['device']), image_id)
            path.rename(self.root / f'{path.name}.{uuid.uuid4()}')
        store, = self.copies(image_id)['stores']
        self.assertEqual([], store['copies'])
        self.assertIn('not in this store', store['error'])

    def test_store_of_another_driver(self) -> None:
        image_id = self.images.upload(b'data', X_Image_Meta_Store='plain')
        self.assertEqual(
            [{'store': 'plain', 'wanted': None, 'minimum': None,
              'error': '', 'copies': []}], self.copies(image_id)['stores'])

    def test_two_stores(self) -> None:
        data = client.content(5000)
        image_id = self.images.upload(data, X_Image_Meta_Store='plain')
        self.images.start_import(image_id, {'name': 'copy-image'},
                                 stores=['copies'])
        self.images.wait(image_id, stores='plain,copies')
        stores = {store['store']: len(store['copies'])
                  for store in self.copies(image_id)['stores']}
        self.assertEqual({'plain': 0, 'copies': 3}, stores)


class TestRefusals(CopiesCase):
    """Errors as Glance's, and in the same order."""

    def same(self, ours: requests.Response, theirs: requests.Response,
             ) -> None:
        """See an answer that differs from Glance's in nothing but words."""
        self.assertEqual(theirs.status_code, ours.status_code)
        differ = {'content-length', 'x-openstack-request-id', 'requestid',
                  'date', 'x-test-process'}
        self.assertEqual(
            {name: value for name, value in theirs.headers.lower_items()
             if name not in differ},
            {name: value for name, value in ours.headers.lower_items()
             if name not in differ})

    ACCEPTS = ('application/json', '*/*', 'text/html', 'text/plain', None)

    def test_unknown_image(self) -> None:
        image_id = str(uuid.uuid4())
        for accept in self.ACCEPTS:
            for method, what in (('GET', ''), ('POST', '/verify')):
                ours = self.ask(image_id, what, method,
                                headers={'Accept': accept})
                theirs = self.images.request('GET', f'/images/{image_id}',
                                             headers={'Accept': accept})
                self.assertEqual(404, ours.status_code)
                self.assertEqual(theirs.content, ours.content)
                self.same(ours, theirs)

    def test_no_image_id(self) -> None:
        for name in ('cirros', 'a b', '..', '%00', 'ä', '日本'):
            ours = self.ask(name)
            theirs = self.images.request('GET', f'/images/{name}')
            self.assertEqual(theirs.status_code, ours.status_code, name)
            self.assertIn(ours.status_code, (400, 404), name)
            self.assertEqual(theirs.content, ours.content, name)

    def test_member(self) -> None:
        image_id = self.images.upload(b'data')
        for method, what in (('GET', ''), ('POST', '/verify')):
            for accept in self.ACCEPTS:
                headers = MEMBER | {'Accept': accept}
                ours = self.ask(image_id, what, method, headers=headers)
                self.assertEqual(403, ours.status_code, ours.text)
                # What Glance's own policy says no to.
                theirs = self.images.request(
                    'PATCH', f'/images/{image_id}', headers=headers | {
                        'Content-Type': PATCH}, json=PUBLISH)
                self.assertEqual(403, theirs.status_code, theirs.text)
                self.same(ours, theirs)
                if accept == 'application/json':
                    self.assertEqual(theirs.json().keys(),
                                     ours.json().keys())
                    self.assertIn('easystack_image:',
                                  ours.json()['error']['message'])

    def test_somebody_elses(self) -> None:
        """Who may not see it is told that there is none."""
        image_id = self.images.upload(b'data')
        answer = self.ask(image_id, headers=STRANGER)
        self.assertEqual(404, answer.status_code)
        answer = self.ask(image_id, '/verify', 'POST', headers=STRANGER)
        self.assertEqual(404, answer.status_code)

    def test_deleted_image(self) -> None:
        image_id = self.images.upload(b'data')
        self.images.delete(image_id)
        self.assertEqual(404, self.ask(image_id).status_code)

    def test_image_without_data(self) -> None:
        image_id = self.images.create()
        for method, what in (('GET', ''), ('POST', '/verify')):
            answer = self.ask(image_id, what, method,
                              headers={'Accept': 'application/json'})
            self.assertEqual(409, answer.status_code)
            error = answer.json()['error']
            self.assertEqual((409, 'Conflict'),
                             (error['code'], error['title']))
            self.assertIn('queued', error['message'])

    def test_nothing_to_verify(self) -> None:
        image_id = self.images.upload(b'data', X_Image_Meta_Store='plain')
        answer = self.ask(image_id, '/verify', 'POST')
        self.assertEqual(409, answer.status_code)
        self.assertIn('plain', answer.text)

    def test_methods(self) -> None:
        image_id = self.images.upload(b'data')
        for what, allowed in (('', 'GET'), ('/verify', 'POST')):
            for method in ('GET', 'POST', 'PUT', 'PATCH', 'DELETE'):
                if method == allowed:
                    continue
                ours = self.ask(image_id, what, method)
                self.assertEqual(405, ours.status_code, (what, method))
                self.assertEqual(allowed, ours.headers['Allow'])
                theirs = self.images.request('PUT', '/images')
                self.assertEqual(405, theirs.status_code)
                theirs.headers['Allow'] = allowed
                self.same(ours, theirs)
        self.check_image(image_id, b'data')

    def test_paths_of_others(self) -> None:
        """What is not ours is Glance's to refuse."""
        image_id = self.images.upload(b'data')
        for path in ('/copies/', '/copies/verify/', '/copies/1', '/copy',
                     '/copies/verify/x'):
            for method in ('GET', 'POST'):
                self.assertEqual(404, self.images.request(
                    method, f'/images/{image_id}{path}').status_code, path)

    def test_policy_file(self) -> None:
        """Deployers override our rules where they override Glance's."""
        image_id = self.images.upload(b'data')
        override = self.root / 'policy.d' / 'easystack-image.yaml'
        override.write_text(json.dumps({
            'easystack_image:get_copies': 'role:reader'}))
        self.addCleanup(override.unlink)
        processes.poll(lambda: self.ask(
            image_id, headers=MEMBER).status_code == 200, 'the new rule')
        self.assertEqual(403, self.ask(image_id, '/verify', 'POST',
                                       headers=MEMBER).status_code)
        self.assertEqual(404, self.ask(image_id,
                                       headers=STRANGER).status_code)


class TestSamples(CopiesCase):
    """What the documentation shows is what there is."""

    def sample(self, name: str) -> Any:
        path = processes.ROOT / 'doc' / 'source' / 'samples' / name
        return json.loads(path.read_text())

    def check_like(self, sample: Any, found: Any, where: str = '') -> None:
        """See the same fields, with values of the same types."""
        self.assertEqual(type(sample), type(found), where)
        if isinstance(sample, dict):
            self.assertEqual(list(sample), list(found), where)
            for name in sample:
                self.check_like(sample[name], found[name],
                                f'{where}.{name}')
        elif isinstance(sample, list):
            for number, (ours, theirs) in enumerate(
                    zip(sample, found, strict=False)):
                self.check_like(ours, theirs, f'{where}[{number}]')

    def test_show(self) -> None:
        image_id = self.images.upload(client.content(5000))
        self.images.start_import(image_id, {'name': 'copy-image'},
                                 stores=['plain'])
        self.images.wait(image_id, stores='copies,plain')
        devices = [Path(copy['device']) for copy in
                   self.copies(image_id)['stores'][0]['copies']]
        server.data_file(devices[1], image_id).write_bytes(b'other data')
        devices[2].rename(devices[2].with_name('away'))
        try:
            answer = self.ask(image_id, '/verify', 'POST')
            self.assertEqual(202, answer.status_code, answer.text)
            found = answer.json()
        finally:
            devices[2].with_name('away').rename(devices[2])
        sample = self.sample('copies-show-response.json')
        self.check_like(sample, found)
        self.assertEqual(
            [copy['state'] for copy in sample['stores'][0]['copies']],
            [copy['state'] for copy in found['stores'][0]['copies']])

    def test_forbidden(self) -> None:
        image_id = self.images.upload(b'data')
        answer = self.ask(image_id, headers=MEMBER | {
            'Accept': 'application/json'})
        self.assertEqual(self.sample('copies-forbidden-response.json'),
                         answer.json())


class TestVerify(CopiesCase):

    def verify(self, image_id: str) -> requests.Response:
        answer = self.ask(image_id, '/verify', 'POST')
        self.assertEqual(202, answer.status_code, answer.text)
        return answer

    def follow(self, location: str,
               *results: str | None) -> dict[str, Any]:
        """Return what is shown when the verification has ended.

        :param results: how it may end, by default well
        """
        results = results or ('verified',)

        def done() -> dict[str, Any]:
            answer = requests.get(location, timeout=60)
            self.assertEqual(200, answer.status_code, answer.text)
            record: dict[str, Any] = answer.json()
            return record if record['verification']['result'] in results \
                else {}

        return processes.poll(done, 'the verification', 60)

    def test_good(self) -> None:
        image_id = self.images.upload(client.content(3 * BLOCK))
        before = time.time()
        answer = self.verify(image_id)
        self.assertEqual(f'{self.images.url}/images/{image_id}/copies',
                         answer.headers['Location'])
        asked = answer.json()
        self.assertEqual(image_id, asked['image_id'])
        if asked['verification']['pending']:
            self.assertGreaterEqual(
                when(asked['verification']['requested_at']), before - 1)
        record = self.follow(answer.headers['Location'])
        store, = record['stores']
        self.assertEqual(3, len(store['copies']))
        for copy in store['copies']:
            self.assertEqual('good', copy['state'])
            self.assertGreaterEqual(when(copy['verified_at']), before - 1)

    def test_damaged(self) -> None:
        """It is found, put aside and replaced, and that can be watched."""
        data = client.content(3 * BLOCK + 77)
        image_id = self.images.upload(data)
        victim = server.data_file(Path(
            self.copies(image_id)['stores'][0]['copies'][1]['device']),
            image_id)
        test_damage.flip(victim, 2 * BLOCK + 5)
        # Only who reads all of it can tell.
        self.assertEqual({'good'}, {
            copy['state'] for copy in
            self.copies(image_id)['stores'][0]['copies']})
        before = time.time()
        record = self.follow(self.verify(image_id).headers['Location'])
        self.assertEqual(['good'] * 3, [
            copy['state'] for copy in record['stores'][0]['copies']])
        for copy in record['stores'][0]['copies']:
            self.assertGreaterEqual(when(copy['verified_at']), before - 1)
            self.assertEqual(data, server.data_file(
                Path(copy['device']), image_id).read_bytes())
        kept, = (path for device in server.devices(self.glance.stores[0])
                 for path in (device / 'quarantine').glob(f'{image_id}.*'))
        self.assertNotEqual(data, (kept / 'data').read_bytes())

    def test_pending_while_a_device_is_away(self) -> None:
        """It goes on when the device is back, in whichever worker."""
        image_id = self.images.upload(client.content(1000))
        device = server.devices(self.glance.stores[0])[2]
        device.rename(device.with_name('away'))
        try:
            location = self.verify(image_id).headers['Location']
            record = self.follow(location, 'incomplete')
            self.all_workers_say_pending(image_id)
        finally:
            device.with_name('away').rename(device)
        self.assertTrue(record['verification']['pending'])
        self.assertIsNotNone(record['verification']['requested_at'])
        self.assertIn(str(device), record['verification']['reason'])
        record = self.follow(location)
        self.assertEqual(['good'] * 3, [
            copy['state'] for copy in record['stores'][0]['copies']])

    def test_no_good_copy_is_left(self) -> None:
        """It ends: nobody waits for ever."""
        data = client.content(3 * BLOCK)
        image_id = self.images.upload(data)
        copies = [server.data_file(Path(copy['device']), image_id) for copy
                  in self.copies(image_id)['stores'][0]['copies']]
        for copy in copies:
            test_damage.flip(copy, BLOCK + 5)
        before = time.time()
        location = self.verify(image_id).headers['Location']
        verification = self.follow(location, 'failed')['verification']
        self.assertFalse(verification['pending'])
        self.assertGreaterEqual(when(verification['ended_at']), before - 1)
        self.assertIn('no copy has a good block',
                      verification['reason'])
        # It was the cable of the disk: who asks again has it looked at.
        test_damage.flip(copies[0], BLOCK + 5)
        self.assertEqual(data, copies[0].read_bytes())
        verification = self.follow(
            self.verify(image_id).headers['Location'])['verification']
        self.assertEqual((False, '', None), (
            verification['pending'], verification['reason'],
            verification['requested_at']))
        self.check_image(image_id, data)

    def test_nothing_tells_what_the_copies_are(self) -> None:
        image_id = self.images.upload(b'data')
        for copy in self.copies(image_id)['stores'][0]['copies']:
            (server.copy_directory(Path(copy['device']), image_id)
             / 'manifest').write_bytes(b'')
        answer = self.ask(image_id, '/verify', 'POST')
        self.assertEqual(409, answer.status_code, answer.text)
        self.assertIn('damaged', answer.text)
        self.assertNotIn(str(self.root), answer.text)
        self.assertEqual('failed', self.copies(image_id)['verification'][
            'result'])

    def all_workers_say_pending(self, image_id: str) -> None:
        """Whichever of them was asked to: it is noted on the devices."""
        workers: set[str] = set()

        def asked() -> bool:
            answer = self.ask(image_id)
            self.assertTrue(answer.json()['verification']['pending'])
            workers.add(answer.headers['X-Test-Process'])
            return len(workers) == self.glance.database.processes

        processes.poll(asked, 'an answer of each worker')

    def test_body_is_no_matter(self) -> None:
        image_id = self.images.upload(b'data')
        answer = self.ask(image_id, '/verify', 'POST', json={})
        self.assertEqual(202, answer.status_code)

    def test_many_at_once(self) -> None:
        """Each request counts, whoever has been asked before."""
        image_id = self.images.upload(client.content(BLOCK))
        for _ in range(5):
            location = self.verify(image_id).headers['Location']
        before = when(self.copies(image_id)['verification'][
            'requested_at'] or '1970-01-01T00:00:00Z')
        record = self.follow(location)
        for copy in record['stores'][0]['copies']:
            self.assertGreaterEqual(when(copy['verified_at']), before)


class TestUnconfigured(base.TestCase):
    """A store that could not be configured when Glance started."""

    def test_it_is_said(self) -> None:
        root = self.temporary_directory()
        devices = server.make_devices(root)
        glance = self.start_glance(
            server.file_store('plain', root / 'plain'),
            server.block_store('copies', devices))
        self.images = client.Images(glance.url)
        image_id = self.images.upload(b'data', X_Image_Meta_Store='copies')
        glance.stop()
        for device in devices:
            device.rename(device.with_suffix('.away'))
        glance.start()
        answer = self.images.request('GET', f'/images/{image_id}/copies')
        self.assertEqual(200, answer.status_code, answer.text)
        store, = answer.json()['stores']
        self.assertEqual([], store['copies'])
        self.assertIn('could not be configured', store['error'])
        answer = self.images.request('POST',
                                     f'/images/{image_id}/copies/verify')
        self.assertEqual(503, answer.status_code, answer.text)
        self.assertNotIn(str(root), answer.text)
