"""Properties that a user may not read: they stay, and stay hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
import uuid

import requests
import sqlalchemy

from tests.functional import base
from tests.functional import processes
from tests.functional import server

MEMBER = {'X-Roles': 'member,reader'}
PATCH = 'application/openstack-images-v2.1-json-patch'
OLD_PATCH = 'application/openstack-images-v2.0-json-patch'
SECRET = 'easystack_internal_note'
SAMPLE = processes.ROOT / 'etc' / 'property-protections.conf.easystack-sample'

POLICIES = """\
[^easystack_internal_]
create = operators
read = operators
update = operators
delete = operators
[.*]
create = anyone
read = anyone
update = anyone
delete = anyone
"""


class HiddenCase(base.SharedGlanceCase):
    """An administrator's note on an image that a member owns."""

    vanilla: ClassVar[bool] = False

    @classmethod
    def protections(cls) -> Mapping[str, object]:
        """Return the options that turn property protections on."""
        return {'property_protection_file': SAMPLE}

    @classmethod
    def make_glance(cls) -> server.Glance:
        (cls.root / 'policy.yaml').write_text(
            'operators: "role:admin"\nanyone: "@"\n')
        return server.Glance(
            cls.root, [server.file_store('plain', cls.root / 'plain')],
            options={'DEFAULT': cls.protections(), 'oslo_policy': {
                'policy_file': cls.root / 'policy.yaml'}},
            pipelines=server.vanilla_paste() if cls.vanilla else None)

    def noted(self, **properties: Any) -> str:
        """Return an image with the note, and something anybody sees."""
        return self.images.create(**{SECRET: 'on loan', 'shade': 'blue'}
                                  | properties)

    def patch(self, image_id: str, *operations: Mapping[str, Any],
              form: str = PATCH, status: int = 200) -> dict[str, Any]:
        """Change an image as a member."""
        answer = self.images.request(
            'PATCH', f'/images/{image_id}', json=operations,
            headers=MEMBER | {'Content-Type': form})
        self.assertEqual(status, answer.status_code, answer.text)
        shown: dict[str, Any] = answer.json() if status == 200 else {}
        return shown

    def member(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request as a member, and return the answer."""
        return self.images.request(method, path, headers=MEMBER | arguments.
                                   pop('headers', {}), **arguments)

    def row(self, image_id: str) -> tuple[Any, ...]:
        """Return the note as the database has it."""
        engine = sqlalchemy.create_engine(self.glance.connection)
        try:
            with engine.connect() as connection:
                found, = connection.execute(sqlalchemy.text(
                    'select id, value, created_at, updated_at, deleted '
                    'from image_properties where image_id = :image_id '
                    'and name = :name'),
                    {'image_id': image_id, 'name': SECRET}).fetchall()
        finally:
            engine.dispose()
        return tuple(found)


class TestKept(HiddenCase):

    def check_kept(self, image_id: str) -> None:
        self.assertEqual('on loan', self.images.show(image_id).get(SECRET))
        self.assertNotIn(SECRET, self.member(
            'GET', f'/images/{image_id}').json())

    def test_patch(self) -> None:
        """Nothing is deleted and made anew: the row is not touched."""
        image_id = self.noted()
        before = self.row(image_id)
        shown = self.patch(
            image_id, {'op': 'replace', 'path': '/name', 'value': 'mine'},
            {'op': 'replace', 'path': '/shade', 'value': 'red'},
            {'op': 'add', 'path': '/more', 'value': 'x'})
        self.assertEqual(('mine', 'red', 'x'), (
            shown['name'], shown['shade'], shown['more']))
        self.assertNotIn(SECRET, shown)
        self.patch(image_id, {'remove': '/shade'}, form=OLD_PATCH)
        self.assertNotIn('shade', self.images.show(image_id))
        self.check_kept(image_id)
        self.assertEqual(before, self.row(image_id))

    def test_upload_and_tags(self) -> None:
        """All that writes an image back, not PATCH alone."""
        image_id = self.noted()
        answer = self.member('PUT', f'/images/{image_id}/file', data=b'data',
                             headers={'Content-Type':
                                      'application/octet-stream'})
        self.assertEqual(204, answer.status_code, answer.text)
        self.check_kept(image_id)
        for method in ('PUT', 'DELETE'):
            answer = self.member(method, f'/images/{image_id}/tags/new')
            self.assertEqual(204, answer.status_code, answer.text)
            self.check_kept(image_id)

    def test_import(self) -> None:
        image_id = self.noted()
        answer = self.member('PUT', f'/images/{image_id}/stage', data=b'data',
                             headers={'Content-Type':
                                      'application/octet-stream'})
        self.assertEqual(204, answer.status_code, answer.text)
        answer = self.member('POST', f'/images/{image_id}/import', json={
            'method': {'name': 'glance-direct'}})
        self.assertEqual(202, answer.status_code, answer.text)
        self.images.wait(image_id, status='active')
        self.check_kept(image_id)

    def test_others_still_may(self) -> None:
        """Who may read it may change and remove it."""
        image_id = self.noted()
        for operation, expected in (
                ({'op': 'replace', 'value': 'back'}, 'back'),
                ({'op': 'remove'}, None)):
            answer = self.images.request(
                'PATCH', f'/images/{image_id}',
                json=[operation | {'path': f'/{SECRET}'}],
                headers={'Content-Type': PATCH})
            self.assertEqual(200, answer.status_code, answer.text)
            self.assertEqual(expected,
                             self.images.show(image_id).get(SECRET))

    def test_no_way_to_it(self) -> None:
        """Whether there is one makes no difference."""
        answers = []
        for image_id in (self.noted(), self.images.create()):
            for operation in (
                    {'op': 'add', 'value': 'x'}, {'op': 'remove'},
                    {'op': 'replace', 'value': 'x'}):
                answer = self.member(
                    'PATCH', f'/images/{image_id}',
                    json=[operation | {'path': f'/{SECRET}'}],
                    headers={'Content-Type': PATCH})
                self.assertIn(answer.status_code, (403, 409))
                answers.append((answer.status_code, answer.text.replace(
                    image_id, '')))
        half = len(answers) // 2
        self.assertEqual([status for status, _ in answers[:half]],
                         [status for status, _ in answers[half:]])

    def test_no_way_to_it_by_another_spelling(self) -> None:
        """To MariaDB, all of them are one name; it would have answered."""
        answers = set()
        for name in (SECRET.upper(), SECRET.title(),
                     SECRET.replace('a', 'ä')):
            for image_id in (self.noted(), self.images.create()):
                answer = self.add(image_id, name, MEMBER)
                answers.add((answer.status_code, answer.text.replace(
                    name, 'NAME').replace(image_id, 'ID')))
                self.assertNotIn(name, self.images.show(image_id))
            created = self.member('POST', '/images', json={name: 'x'},
                                  headers={'Accept': 'application/json'})
            self.assertEqual(403, created.status_code, created.text)
        (status, text), = answers
        self.assertEqual((403, True), (status, 'reserved' in text), text)

    def test_two_spellings(self) -> None:
        """One after the other, where the database tells them apart."""
        image_id = self.noted()
        status = 409 if base.ON_MARIADB else 200
        for name, headers in (('SHADE', MEMBER), ('Shade', {}),
                              (SECRET.upper(), {})):
            answer = self.add(image_id, name, headers)
            self.assertEqual(status, answer.status_code, answer.text)
        self.check_kept(image_id)

    def add(self, image_id: str, name: str,
            headers: Mapping[str, str]) -> requests.Response:
        return self.images.request(
            'PATCH', f'/images/{image_id}',
            json=[{'op': 'add', 'path': f'/{name}', 'value': 'x'}],
            headers={'Content-Type': PATCH,
                     'Accept': 'application/json'} | headers)

    def test_delete_image(self) -> None:
        image_id = self.noted()
        answer = self.member('DELETE', f'/images/{image_id}')
        self.assertEqual(204, answer.status_code, answer.text)
        self.assertNotEqual(0, self.row(image_id)[-1])


class TestFilters(HiddenCase):

    def listed(self, query: str, **headers: str) -> list[str]:
        answer = self.images.request('GET', f'/images?{query}',
                                     headers=headers)
        self.assertEqual(200, answer.status_code, answer.text)
        self.assertIn('first', answer.json())
        return [image['id'] for image in answer.json()['images']]

    def test_hidden(self) -> None:
        image_id = self.noted()
        other = str(uuid.uuid4())
        for query in (f'{SECRET}=on%20loan', f'{SECRET}=on+loan&shade=blue',
                      f'shade=blue&{SECRET}=on+loan&limit=5',
                      f'{SECRET}=on+loan&sort=name:asc',
                      f'{SECRET}=on+loan&name=x&{SECRET}=on+loan',
                      f'{SECRET}=on+loan&id=in:{image_id},{other}',
                      f'{SECRET}=on+loan&visibility=all'):
            # To MariaDB, all of them are one name.
            for name in (SECRET, SECRET.upper(),
                         SECRET.replace('a', '%C3%A4')):
                self.assertEqual([], self.listed(
                    query.replace(SECRET, name), **MEMBER), query)
        self.assertIn(image_id, self.listed(f'{SECRET}=on+loan'))
        self.assertIn(image_id, self.listed('shade=blue', **MEMBER))
        self.assertIn(image_id, self.listed(
            f'shade=blue&id=in:{image_id},{other}', **MEMBER))

    def test_answers_are_the_same(self) -> None:
        """Right and wrong guesses, and names that nobody has."""
        self.noted()
        for query in ('{}=on+loan', '{}=on+loan&limit=1',
                      '{}=in:on+loan,x', '{}=in:%22on%20loan%22',
                      '{}=neq:x', 'sort_key={}', 'sort={}:asc',
                      '{}_min=1', 'marker={}', '{}='):
            texts = set()
            for name in (SECRET, 'easystack_internal_nota',
                         'easystack_internal_else'):
                answer = self.member('GET', '/images?' + query.format(name))
                texts.add((answer.status_code,
                           answer.text.replace(name, 'NAME')))
            self.assertEqual(1, len(texts), query)
        guesses = {self.member('GET', f'/images?{SECRET}={guess}').text.
                   replace(guess, '') for guess in ('on+loan', 'sold')}
        self.assertEqual(1, len(guesses), guesses)

    def test_csv(self) -> None:
        self.noted(name='by-csv')
        answer = self.member('GET', f'/images?{SECRET}=on+loan',
                             headers={'Accept': 'text/csv'})
        self.assertNotIn('by-csv', answer.text)


class TestPolicies(TestKept):
    """The same with rules instead of roles."""

    @classmethod
    def protections(cls) -> Mapping[str, object]:
        path = cls.root / 'protections.conf'
        path.write_text(POLICIES)
        return {'property_protection_file': path,
                'property_protection_rule_format': 'policies'}

    test_hidden = TestFilters.test_hidden
    listed = TestFilters.listed


class TestVanilla(HiddenCase):
    """What Glance does by itself: why all of this is needed."""

    vanilla = True

    def test_loss(self) -> None:
        image_id = self.noted()
        self.patch(image_id, {'op': 'replace', 'path': '/name',
                              'value': 'mine'})
        self.assertNotIn(SECRET, self.images.show(image_id))
        self.assertNotEqual(0, self.row(image_id)[-1])

    def test_guessing(self) -> None:
        image_id = self.noted()
        answer = self.member('GET', f'/images?{SECRET}=on+loan')
        self.assertEqual([image_id], [image['id'] for image
                                      in answer.json()['images']])
