"""What the other nodes say of themselves.

Each answer of the image service names its release, and one to ``GET /`` says
whether the node has settled on it (``serving.standing``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
import dataclasses
import logging
import ssl

import urllib3

from easystack_image.ota import settings as settings_module
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import standing

LOG = logging.getLogger(__name__)

#: Seconds to wait for an answer.
_ANSWER = 10.0


@dataclasses.dataclass(frozen=True)
class Peer:
    """A node.

    :param release: that it serves; '' if it does not say
    :param standing: None if it does not say
    """

    release: str = ''
    standing: standing.Standing | None = None

    def lacks(self, release: str) -> str:
        """Return what is lacking until it is done with a release, or ''."""
        if self.release != release:
            return self.release or 'it does not say what it serves'
        if self.standing is None:
            return 'it does not say whether its upgrade has ended'
        return '' if self.standing.settled == release else (
            'its upgrade to it has not ended')

    def may_be_older(self, release: declarations.Declaration,
                     newer: Collection[str]) -> str:
        """Return why it may serve, or go back to, something before a release.

        One that says nothing serves nobody, for all that is known.

        :param newer: versions that are known to be of later releases
        :returns: '' if it does not
        """
        if self.release in ('', *newer):
            return ''
        if self.release != release.version:
            return f'it serves {self.release}'
        if self.standing is None or release.version == (
                self.standing.settled):
            return ''
        # It cannot go back, whatever its upgrade lacks.
        return '' if self.standing.contracted >= release.number else (
            f'its upgrade to {release.version} has not ended')


def ask(url: str, ca_file: str = '') -> Peer:
    """Ask a node.

    :param url: of its image service
    :param ca_file: certificates to trust; '' for the system's
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    try:
        with urllib3.PoolManager(ssl_context=context) as pool:
            answer = pool.request('GET', url, timeout=_ANSWER, retries=False,
                                  redirect=False, preload_content=False)
            found = Peer(answer.headers.get(layout.RELEASE_HEADER, ''),
                         standing.from_header(answer.headers.get(
                             layout.STANDING_HEADER, '')))
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        LOG.info('%s does not answer: %s', url, error)
        return Peer()
    return found


def before(settings: settings_module.Settings) -> list[str]:
    """Return the URLs of the nodes that are upgraded before this one."""
    nodes = settings.nodes.split()
    return nodes[:nodes.index(settings.node_url)] if nodes else []


def after(settings: settings_module.Settings) -> list[str]:
    """Return the URLs of the nodes that are upgraded after this one."""
    nodes = settings.nodes.split()
    return nodes[nodes.index(settings.node_url) + 1:] if nodes else []


def others(settings: settings_module.Settings) -> list[str]:
    """Return the URLs of all nodes but this one."""
    return [url for url in settings.nodes.split() if url != settings.node_url]


def is_last(settings: settings_module.Settings) -> bool:
    """Whether no other node has to be upgraded after this one."""
    return settings.nodes.split()[-1:] in ([], [settings.node_url])


def behind(settings: settings_module.Settings, urls: Iterable[str],
           release: str) -> tuple[str, str] | None:
    """Return the first node that is not done with a release, and why."""
    for url in urls:
        if lacking := ask(url, settings.ca_file).lacks(release):
            return url, lacking
    return None
