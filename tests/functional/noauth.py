"""A paste filter that stands where keystonemiddleware stands otherwise.

Every request acts as one user of one project with the roles below, unless
the request says otherwise in the same headers.  Glance's own ``context``
filter comes after it, so that everything that asks for an owner works.

Each answer says in a header which process gave it: tests that kill one can
tell what it was working at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import os
from typing import Any

USER = 'c0ffee00000000000000000000000001'
PROJECT = 'c0ffee00000000000000000000000002'
ROLES = 'admin,member,reader'
#: The header with the id of the process that answered.
PROCESS = 'X-Test-Process'

_IDENTITY = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': USER,
    'HTTP_X_PROJECT_ID': PROJECT,
    'HTTP_X_ROLES': ROLES,
}

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def factory(global_conf: dict[str, str],
            **local_conf: str) -> Callable[[Application], Application]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf

    def wrap(app: Application) -> Application:
        def identified(environ: dict[str, Any],
                       start_response: Callable[..., Any]) -> Iterable[bytes]:
            for name, value in _IDENTITY.items():
                environ.setdefault(name, value)

            def respond(status: str, headers: list[tuple[str, str]],
                        *rest: Any) -> Any:
                return start_response(
                    status, [*headers, (PROCESS, str(os.getpid()))], *rest)

            return app(environ, respond)

        return identified

    return wrap
