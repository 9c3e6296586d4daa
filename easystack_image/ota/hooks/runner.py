"""Runs one class in a slot, and answers the updater in JSON."""

from __future__ import annotations

import traceback
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.hooks import base


def run(kind: type[base.Hook], context: base.Context) -> dict[str, Any]:
    """Run a hook; return how it ended.

    What it raises and did not mean to is printed for the operator.
    """
    try:
        message = kind().run(context)
    except exceptions.RetryLater as error:
        return _answer(base.State.RETRY, str(error), error.seconds)
    except exceptions.HookFailed as error:
        return _answer(base.State.FAILED, str(error))
    except (Exception, SystemExit) as error:
        # A fault of the hook is no reason to go on.
        traceback.print_exc()
        return _answer(base.State.FAILED, f'it has a fault: {error!r}')
    return _answer(base.State.DONE, message or '')


def _answer(state: base.State, message: str, again: float = base.RETRY,
            ) -> dict[str, Any]:
    return {'state': state, 'message': message, 'again': again}
