"""What a user cannot read is left alone, and not found."""

from __future__ import annotations

import types
from typing import Any

from oslo_context import context as oslo_context
import testtools
from webob import exc
from webob import multidict

from easystack_image import exceptions
from easystack_image.middleware import hidden


class Rules:
    """Protections that hide what begins with "secret" from all but admins.

    Like Glance's they add a service's roles to those that they find.
    """

    def check_property_rules(self, name: str, action: str,
                             context: Any) -> bool:
        context.roles.extend(context.service_roles)
        assert action == 'read'
        return not name.startswith('secret') or 'admin' in context.roles


class Twice(Exception):
    """What the database says to a name that it has already."""


class Api:
    """Glance's database API: keeps one image's properties in a dict."""

    #: Its columns are attributes of a class.
    models = types.SimpleNamespace(Image=types.SimpleNamespace(name=''))

    def __init__(self) -> None:
        self.properties = {'secret': 'x', 'shade': 'blue', 'os_glance_x': '1'}
        self.filters: Any = None
        self.images: list[dict[str, Any]] = []

    def image_update(self, context: Any, image_id: str, values: Any,
                     purge_props: bool = False, from_state: Any = None,
                     v1_mode: bool = False, atomic_props: Any = None) -> Any:
        """Write the properties as ``_set_properties_for_image`` does."""
        atomic_props = () if atomic_props is None else atomic_props
        given = values.get('properties', {})
        for name, value in given.items():
            if name not in atomic_props:
                self._write(name, value)
        for name in list(self.properties):
            if purge_props and name not in atomic_props and name not in given:
                del self.properties[name]
        return self.properties

    def _write(self, name: str, value: str) -> None:
        """Compare names as MariaDB does."""
        if any(name != other and name.lower() == other.lower()
               for other in self.properties):
            raise Twice
        self.properties[name] = value

    def image_create(self, context: Any, values: Any) -> Any:
        """Begin anew."""
        self.properties = {}
        return self.image_update(context, 'x', values)

    def image_get_all(self, context: Any, filters: Any = None,
                      marker: Any = None, limit: Any = None) -> Any:
        """Compare names as MariaDB does."""
        self.filters = filters
        if not self.images:
            return []
        wanted = {name.lower() for name in filters}
        found = [image for image in self.images if wanted <= {
            each['name'].lower() for each in image['properties']}]
        ids = [image['id'] for image in found]
        start = ids.index(marker) + 1 if marker else 0
        return found[start:][:limit]

    def image_get(self, context: Any, image_id: str) -> Any:
        """Return it with a property that is there no longer."""
        listed = [{'name': name, 'deleted': False}
                  for name in self.properties]
        return {'properties': [*listed, {'name': 'Secret gone',
                                         'deleted': True}]}


def user(*roles: str, service: str = '') -> oslo_context.RequestContext:
    return oslo_context.RequestContext(
        roles=list(roles), overwrite=False,
        service_roles=[service] if service else [])


class HiddenTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.api = Api()
        self.database = hidden.Database(self.api, Rules(), Twice)

    def update(self, context: Any, properties: dict[str, str]) -> None:
        self.database.image_update(
            context, 'x', {'properties': properties}, purge_props=True,
            atomic_props={'os_glance_x'})

    def test_update(self) -> None:
        self.update(user('member'), {'shade': 'red', 'new': '1'})
        self.assertEqual({'secret': 'x', 'shade': 'red', 'new': '1',
                          'os_glance_x': '1'}, self.api.properties)
        self.update(user('member'), {'os_glance_x': '2'})
        self.assertEqual({'secret': 'x', 'os_glance_x': '1'},
                         self.api.properties)
        self.update(user('admin'), {'secret': 'y'})
        self.assertEqual({'secret': 'y', 'os_glance_x': '1'},
                         self.api.properties)
        self.update(user('member', service='admin'), {})
        self.assertEqual({'os_glance_x': '1'}, self.api.properties)

    def test_deletion_of_the_image(self) -> None:
        """It writes no properties, and takes all with it."""
        self.database.image_update(user('member'), 'x', {'status': 'deleted'},
                                   purge_props=True)
        self.assertEqual({}, self.api.properties)

    def test_what_is_added_meanwhile(self) -> None:
        """Each is judged when it is about to be purged."""
        left = hidden.Unreadable((), {}, lambda name: name != 'secret')
        self.api.properties = {'secret': 'just now', 'shade': 'x'}
        self.api.image_update(None, 'x', {'properties': {}}, True,
                              atomic_props=left)
        self.assertEqual({'secret': 'just now'}, self.api.properties)

    def test_context_stays_as_it_is(self) -> None:
        context = user('member', service='service')
        self.update(context, {})
        self.database.image_get_all(context, {'secret': 'x', 'shade': 'y'})
        self.assertEqual(['member'], context.roles)

    def test_twins_of_hidden_properties(self) -> None:
        """Refused alike, whether there is a hidden one or none."""
        for properties in ({'secret': 'x', 'shade': 'blue'}, {}):
            for name in ('SECRET', 'Secret', 'SECRET ', 'sécret', 'SÉCRET',
                         'Secret gone', 'SECRETLY'):
                self.api.properties = dict(properties)
                error = self.assertRaises(
                    exc.HTTPForbidden, self.update, user('member'),
                    {'shade': 'red', name: 'y'})
                self.assertEqual(f"Attribute '{name}' is reserved.",
                                 error.explanation)
                self.assertEqual(properties, self.api.properties)
                self.assertRaises(
                    exc.HTTPForbidden, self.database.image_create,
                    user('member'), {'properties': {name: 'y'}})
        self.update(user('member'), {'Shade of Secret': 'y'})
        self.database.image_create(user('admin'),
                                   {'properties': {'Secret': 'y'}})
        # It is written back with all that is changed.
        self.update(user('member'), {'Secret': 'y', 'shade': 'red'})
        self.assertEqual({'Secret': 'y', 'shade': 'red'},
                         self.api.properties)

    def test_other_twins(self) -> None:
        """409, and not Glance's 500, which looks like a fault."""
        self.assertRaises(exc.HTTPConflict, self.update, user('member'),
                          {'shade': 'red', 'SHADE': 'red'})
        self.assertRaises(exc.HTTPConflict, self.update, user('admin'),
                          {'SECRET': 'red'})
        error = self.assertRaises(
            exc.HTTPConflict, self.database.image_create, user('member'),
            {'properties': {'a': '1', 'A': '2'}})
        self.assertNotIn('secret', str(error))

    def listed(self, context: Any, filters: Any) -> Any:
        self.assertEqual([], self.database.image_get_all(
            context, filters=filters, marker='m'))
        return self.api.filters

    def test_filters(self) -> None:
        for filters in (None, {}, {'name': 'secret'},
                        {'deleted': False, 'tags': ['secret'],
                         'secret_min': '1'}):
            self.assertIs(filters, self.listed(user('member'), filters))
        hidden_ = {'secret': 'x', 'shade': 'y'}
        self.assertEqual(hidden_, self.listed(user('admin'), hidden_))
        self.assertEqual({'shade': 'y', hidden.NO_PROPERTY: ''},
                         self.listed(user('member'), hidden_))
        self.assertEqual(2, len(hidden_))

    def test_repeated_filters(self) -> None:
        filters = multidict.MultiDict([('secret', 'x'), ('a', '1'),
                                       ('secret', 'y'), ('a', '2')])
        self.assertEqual(
            [('a', '1'), ('a', '2'), (hidden.NO_PROPERTY, '')],
            list(self.listed(user('member'), filters).items()))

    def test_names_that_the_database_takes_for_the_same(self) -> None:
        """Neither the images nor the pages tell of them."""
        kinds = ['secret', 'Secret', 'secret', 'secret', 'Secret'] * 50
        self.api.images = [
            {'id': str(number), 'properties': [
                {'name': name, 'value': 'x', 'deleted': False},
                {'name': 'Old', 'value': 'x', 'deleted': True}]}
            for number, name in enumerate(kinds)]
        seen = [str(number) for number, name in enumerate(kinds)
                if name == 'Secret']
        for limit in (None, 1, 2, 7, 99, 100, 101, 500):
            for marker, expected in ((None, seen), ('2', seen[1:])):
                listed = self.database.image_get_all(
                    user('member'), filters={'Secret': 'x'}, limit=limit,
                    marker=marker)
                self.assertEqual(expected[:limit],
                                 [each['id'] for each in listed])
        for name in ('SECRET', 'secret', 'Old'):
            self.assertEqual([], self.database.image_get_all(
                user('member'), filters={name: 'x'}, limit=3))

    def test_the_rest_is_glances(self) -> None:
        self.assertEqual(['secret', 'shade', 'os_glance_x', 'Secret gone'], [
            each['name'] for each in self.database.image_get(
                user(), 'x')['properties']])
        self.assertRaises(AttributeError, getattr, self.database, 'fly')

    def test_releases_that_it_does_not_fit_to(self) -> None:
        hidden.check_api(self.api)

        class Other(Api):
            def image_update(self, context: Any, image_id: str,
                             values: Any) -> None:
                """Purge, and let nothing be left alone."""

        error = self.assertRaises(exceptions.ConfigurationError,
                                  hidden.check_api, Other())
        self.assertIn('image_update lacks atomic_props', str(error))
