"""The book of images that are damaged, and could not be repaired.

So that every process knows of them: the health check tells of them, and
nobody reads all of one again and again only to find the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json

from easystack_image.blockstore import engine
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What came of the last repair of a damaged image."""

    attempt: engine.RepairAttempt
    #: The OSDs that were up; with others it may go better.
    osds: frozenset[str]


def put(cluster: connection.Cluster, upload: layout.Upload,
        entry: Entry) -> None:
    """Enter an image; call it within a run."""
    ledger.write(cluster, layout.DAMAGED, upload.name, json.dumps(
        dataclasses.asdict(entry.attempt)
        | {'osds': sorted(entry.osds)}).encode())


def entries(cluster: connection.Cluster,
            image_id: str = '') -> dict[layout.Upload, Entry]:
    """Return all entries, or those of one image.

    Whatever is no entry of ours is left out.
    """
    found = {}
    for upload, value in ledger.values(cluster, layout.DAMAGED,
                                       image_id).items():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            fields = json.loads(value)
            osds = frozenset(fields.pop('osds'))
            found[upload] = Entry(engine.RepairAttempt(**fields), osds)
    return found


def problems(cluster: connection.Cluster) -> list[engine.Problem]:
    """Return what an operator should know of the images."""
    listed = entries(cluster)
    found = []
    lost = sum(entry.attempt.lost for entry in listed.values())
    if lost:
        found.append(engine.Problem(
            engine.Severity.CRITICAL, 'images-lost', None,
            f'{_number(lost)} blocks that are good in no copy '
            '("easystack-image-manage copies list --lacking" names them): '
            'bring back OSDs that are away, and run "easystack-image-manage '
            'repair"; else restore the data from a backup, or delete the '
            'image in Glance'))
    if len(listed) > lost:
        found.append(engine.Problem(
            engine.Severity.CRITICAL, 'images-damaged', None,
            f'{_number(len(listed) - lost)} blocks that could not be '
            'repaired ("easystack-image-manage copies show" says why)'))
    waiting = len(set(ledger.entries(cluster, layout.REQUESTS))
                  - set(listed))
    if waiting:
        found.append(engine.Problem(
            engine.Severity.WARNING, 'images-waiting', None,
            f'{_number(waiting)} a repair to come: let glance-api or the '
            'healer finish, or run "easystack-image-manage repair"'))
    return found


def _number(images: int) -> str:
    return '1 image has' if images == 1 else f'{images} images have'
