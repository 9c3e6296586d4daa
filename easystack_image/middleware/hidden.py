"""Properties that a user may not read stay, and stay hidden.

Glance's property protections hide properties from users, but forget that
they are there.  When a user's request changes an image, Glance writes back
the properties that he can read, and deletes the others (``ImageRepo.save`` in
``glance/db/__init__.py``); and lists can be filtered by properties that he
cannot read, so that their values can be guessed.

Both happen between Glance's controllers and its database, so that is where
this stands: :class:`Database` is Glance's database API with some functions of
it told who asks.  The controllers are given it by :func:`app_factory`, which
stands in the paste file in place of Glance's own factory.  It holds for all
that works on images in their behalf: uploads and imports as well.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
import contextlib
import copy
import inspect
from typing import Any
import unicodedata

from webob import exc

from easystack_image import exceptions
from easystack_image.middleware import tags

#: A name that no image has a property of: Glance keeps the prefix to itself.
NO_PROPERTY = 'os_glance_easystack_unreadable'
#: How many images are looked at at once, to fill up a page.
_PAGE = 100
#: Filters of lists that are no attributes of an image, and no properties.
_SPECIAL = frozenset({'changes-since', 'deleted', 'properties', 'tags',
                      'visibility'})
_ARGUMENTS = {
    'image_create': ('context', 'values'),
    'image_get': ('context', 'image_id'),
    'image_update': ('context', 'values', 'purge_props', 'atomic_props'),
    'image_get_all': ('context', 'filters', 'marker', 'limit'),
}

Readable = Callable[[str], bool]


class Unreadable(Container[str]):
    """The names that are neither readable nor written: hands off them.

    It stands for the properties that ``image_update`` neither writes nor
    purges.  They are judged one by one as the database has them, within the
    transaction that writes the others; so none is lost that somebody else
    adds meanwhile.

    :param untouched: what Glance itself leaves alone
    :param written: the properties that are written
    :param readable: tells whether the user may read one
    """

    def __init__(self, untouched: Container[str], written: Container[str],
                 readable: Readable) -> None:
        self._untouched = untouched
        self._written = written
        self._readable = readable

    def __contains__(self, name: object) -> bool:
        """Tell whether to leave a property as it is."""
        return name in self._untouched or (
            name not in self._written and not self._readable(str(name)))


class Database:
    """Glance's database API, for whoever may not read all properties.

    :param api: the module, ``glance.db.sqlalchemy.api``
    :param rules: the deployment's property protections
    :param duplicate: what the database raises if it takes two names for one
    """

    def __init__(self, api: Any, rules: Any,
                 duplicate: type[Exception]) -> None:
        self._api = api
        self._rules = rules
        self._duplicate = duplicate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def _reader(self, context: Any) -> Readable:
        """Return what tells whether a user may read a property."""
        asking = copy.copy(context)
        # The rules add the roles of the service to the list that they find.
        asking.roles = list(context.roles)

        def readable(name: str) -> bool:
            return bool(self._rules.check_property_rules(name, 'read',
                                                         asking))

        return readable

    def image_update(self, context: Any, image_id: str,
                     values: Mapping[str, Any], *args: Any,
                     **kwargs: Any) -> Any:
        """Update an image, and leave alone what the user cannot read.

        :raises webob.exc.HTTPError: if a new property cannot have its name
        """
        written = values.get('properties')
        if written is not None:
            readable = self._reader(context)
            twins = _twins(written, readable)
            if twins:
                there = self._api.image_get(context, image_id)['properties']
                _refuse(twins - {each['name'] for each in there
                                 if not each['deleted']})
            kwargs['atomic_props'] = Unreadable(
                kwargs.get('atomic_props') or (), written, readable)
        with self._told_apart():
            return self._api.image_update(context, image_id, values, *args,
                                          **kwargs)

    def image_create(self, context: Any, values: Mapping[str, Any],
                     *args: Any, **kwargs: Any) -> Any:
        """Create an image.

        :raises webob.exc.HTTPError: if a property cannot have its name
        """
        written = values.get('properties') or {}
        _refuse(_twins(written, self._reader(context)))
        with self._told_apart():
            return self._api.image_create(context, values, *args, **kwargs)

    @contextlib.contextmanager
    def _told_apart(self) -> Iterator[None]:
        """Answer for two names that the database takes for one.

        Glance would answer 500.  What the other one is, and whether the user
        may see it, is not told.

        :raises webob.exc.HTTPConflict: if it happens
        """
        try:
            yield
        except self._duplicate as error:
            raise exc.HTTPConflict(
                explanation='A name of a property cannot be used for this '
                            'image, because the database may take it for '
                            'another one; choose one that differs in more '
                            'than case, accents and blanks') from error

    def image_get_all(self, context: Any, filters: Any = None,
                      **kwargs: Any) -> Any:
        """List images; no image has what the user cannot read."""
        names = self._properties_in(filters or ())
        if not names:
            return self._api.image_get_all(context, filters=filters, **kwargs)
        readable = self._reader(context)
        hidden = {name for name in names if not readable(name)}
        if hidden:
            filters = filters.copy()
            for name in hidden:
                del filters[name]
            filters[NO_PROPERTY] = ''
        return self._named_exactly(context, names - hidden, filters, kwargs)

    def _properties_in(self, filters: Iterable[str]) -> set[str]:
        """Return the names of the properties that a list is filtered by."""
        image = self._api.models.Image
        return {name for name in filters
                if name not in _SPECIAL and not hasattr(image, name)
                and not _is_range(name)}

    def _named_exactly(self, context: Any, names: set[str], filters: Any,
                       kwargs: dict[str, Any]) -> list[Any]:
        """List images that have properties of these very names.

        To MariaDB and MySQL, ``SECRET``, ``secret`` and ``sécret`` are one
        name; to the rules they are three, and the user may read one of them.
        A page is filled up from the next ones, so that it does not tell what
        was left out.
        """
        limit = kwargs.get('limit')
        kept: list[Any] = []
        while True:
            # Glance takes some of them out.
            found = self._api.image_get_all(context, filters=filters.copy(),
                                            **kwargs)
            kept += [image for image in found if names <= {
                each['name'] for each in image['properties']
                if not each['deleted']}]
            if not limit or len(kept) >= limit or (
                    len(found) < kwargs['limit']):
                return kept[:limit]
            kwargs = kwargs | {'marker': found[-1]['id'],
                               'limit': max(limit, _PAGE)}


def _plain(name: str) -> str:
    """Return a name without what MariaDB and MySQL do not compare.

    Not to the last letter of every collation; but no rule needs more.
    """
    letters = unicodedata.normalize('NFKD', name.casefold())
    return ''.join(letter for letter in letters
                   if not unicodedata.combining(letter)).rstrip()


def _twins(names: Iterable[str], readable: Readable) -> set[str]:
    """Return those that a database may take for one that is hidden.

    They look like names of the user's own: no rule is for them.
    """
    return {name for name in names
            if (plain := _plain(name)) != name and readable(name)
            and not readable(plain)}


def _refuse(names: Iterable[str]) -> None:
    """Refuse names, whether there is a hidden twin of them or not.

    The answer is the one to the twin's own name (``ReservedProperty`` in
    ``glance/common/exception.py``).

    :raises webob.exc.HTTPForbidden: if there are any
    """
    for name in sorted(names):
        raise exc.HTTPForbidden(
            explanation=f"Attribute '{name}' is reserved.")


def _is_range(name: str) -> bool:
    """Tell whether Glance takes a name for a range of one of its columns."""
    return name.endswith(('_min', '_max'))


def check_api(api: Any) -> None:
    """See that Glance's database API is one that this fits to.

    :raises easystack_image.exceptions.ConfigurationError: if it is not; it
        would lose properties
    """
    for name, arguments in _ARGUMENTS.items():
        function = inspect.unwrap(getattr(api, name, lambda: None))
        lacking = set(arguments).difference(
            inspect.signature(function).parameters)
        if lacking:
            raise exceptions.ConfigurationError(
                f'easystack_images does not fit to this release of Glance: '
                f'glance.db.sqlalchemy.api.{name} lacks '
                f'{", ".join(sorted(lacking))}. Use Glance 32 or 33, or set '
                "apiv2app in the paste file to Glance's own factory")


@contextlib.contextmanager
def _database(glance_db: Any, make: Callable[[Any], Database],
              ) -> Iterator[list[Database]]:
    """Have whoever asks Glance for its database API meanwhile get ours.

    :param glance_db: the module ``glance.db``
    :param make: given Glance's, returns ours
    """
    made: list[Database] = []
    original = glance_db.get_api

    def get_api() -> Database:
        made.append(make(original()))
        return made[-1]

    glance_db.get_api = get_api
    try:
        yield made
    finally:
        glance_db.get_api = original


def app_factory(global_conf: Mapping[str, str], **local_conf: str) -> Any:
    """Return Glance's application ``apiv2app``, as paste.deploy wants it.

    Its controllers ask for the database API once, when they are made.
    Without property protections they get Glance's.  It is told of tags as
    they are (:mod:`easystack_image.middleware.tags`) in any case.

    :raises easystack_image.exceptions.ConfigurationError: if this release of
        Glance is not one that this fits to, or there is none
    """
    try:
        # The package is used by commands as well, and tested, where there is
        # no Glance.
        from glance.api.v2 import router
        from glance.common import property_utils
        import glance.db
        from oslo_db import exception as db_exception
    except ImportError as error:
        raise exceptions.ConfigurationError(
            'easystack_images replaces the application apiv2app of Glance '
            '32 or 33, which is not in this Python environment: '
            f'{error}') from error
    if not property_utils.is_property_protection_enabled():
        return tags.Tags(router.API.factory(global_conf, **local_conf))
    check_api(glance.db.get_api())
    rules = property_utils.PropertyRules()
    with _database(glance.db, lambda api: Database(
            api, rules, db_exception.DBDuplicateEntry)) as made:
        app = router.API.factory(global_conf, **local_conf)
    if not made:
        raise exceptions.ConfigurationError(
            'easystack_images does not fit to this release of Glance: its '
            'controllers ask nobody for the database. Use Glance 32 or 33')
    return tags.Tags(app)
