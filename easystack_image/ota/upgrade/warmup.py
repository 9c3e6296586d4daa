"""What each worker of a new instance does before it serves users.

It answers ``warm_paths``, and then keeps small images of its own, as the
canary does through one worker: so nothing that a user's upload, download or
list needs has to be loaded, compiled or connected while he waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import json
import time

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warmth
from easystack_image.ota.upgrade import canary

#: Tells one set of requests from the next.
_SET = 'X-Easystack-Warm'
#: Bytes of an image, and of a page of the list of images, in rows.
_SIZE, _PAGE = 128 << 10, 25
#: Seconds that Keystone may take: without a token, warming up goes on.
_PATIENCE = 10.0
#: The same for who goes back.
_HURRY = 1.0


class WarmUp:
    """Warms up instances.

    :param settings: of the updater
    :param say: tells the operator
    :param hurried: whether somebody goes back, whom nothing may hold up for
        long, and nothing that is only said here may stop
    """

    def __init__(self, settings: settings_module.Settings,
                 say: Callable[[str], None], hurried: bool = False) -> None:
        self._settings = settings
        self._say = say
        self._hurried = hurried

    def ask(self, place: layout.Place) -> None:
        """Have the workers of an instance, which wait, warm up.

        :raises OSError: if they cannot be told
        """
        for path in place.path.glob(f'{layout.WARM}.[0-9]*'):
            # Of workers that may be dead.
            path.unlink(missing_ok=True)
        headers = {_SET: f'{time.time_ns()}', 'Accept': 'application/json',
                   **self._token()}
        requests = [warmth.Request(path, headers)
                    for path in self._settings.warm_paths.split()]
        if self._settings.warm_images:
            requests += _keep_image(headers)
        warmth.ask(place, requests, max(1, self._settings.warm_images))

    def check(self, place: layout.Place) -> None:
        """See how the workers of an instance did, whoever has asked them.

        A refusal does no harm: whether the release works is seen by the
        canary.

        :raises UpgradeFailed: if the application raised something, unless
            somebody goes back
        """
        for worker, found in sorted(warmth.results(place).items()):
            for request, answer in found.answers:
                if answer is None or answer[:1].isdigit():
                    continue
                text = (f'instance {place.name}, asked for {request} before '
                        f'it serves, fails in worker {worker}: {answer}')
                if not self._hurried:
                    raise exceptions.UpgradeFailed(text)
                self._say(text)

    def _token(self) -> dict[str, str]:
        patience = _HURRY if self._hurried else _PATIENCE
        try:
            return canary.authenticate(dataclasses.replace(
                canary.configured(self._settings), timeout=patience))
        except (exceptions.NotNow, exceptions.ConfigurationError) as error:
            # A rollback has to go on without Keystone, too.
            self._say(f'new processes warm up without a token: {error}')
            return {}


def _keep_image(headers: Mapping[str, str]) -> list[warmth.Request]:
    """Return what is done with an image: what a canary would clean up."""
    image = f'/v2/images/{warmth.IMAGE}'
    record = {**headers, 'Content-Type': 'application/json'}
    data = {**headers, 'Content-Type': 'application/octet-stream'}
    return [
        warmth.Request('/v2/images', record, 'POST',
                       body=json.dumps(canary.record())),
        warmth.Request(f'{image}/file', data, 'PUT', size=_SIZE),
        warmth.Request(image, headers),
        warmth.Request(f'/v2/images?limit={_PAGE}', headers),
        warmth.Request(f'{image}/file', headers),
        warmth.Request(image, headers, 'DELETE')]
