"""One upload in a process of its own, fed by its parent.

``python -m tests.ceph.child CONF POOL USER IMAGE_ID`` stores what comes on
its standard input, whose size it does not know, and prints the location.
"""

from __future__ import annotations

import subprocess
import sys
from typing import IO

from tests.ceph import cluster as cluster_module
from tests.ceph import stores
from tests.functional import processes


def start(cluster: cluster_module.Cluster,
          image_id: str) -> subprocess.Popen[bytes]:
    """Start such a process; the caller ends it, and closes its pipes."""
    return subprocess.Popen(
        [sys.executable, '-m', 'tests.ceph.child', str(cluster.conf),
         cluster.pool, cluster.user, image_id],
        env=processes.environment(), cwd=processes.ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def main(conf: str, pool: str, user: str, image_id: str,
         source: IO[bytes]) -> None:
    """Store the image."""
    client = stores.Client('easystack_block', {
        'easystack_block_engine': 'ceph', 'easystack_block_ceph_conf': conf,
        'easystack_block_ceph_pool': pool, 'easystack_block_ceph_user': user})
    print(client.upload(image_id, source), flush=True)
    client.close()


if __name__ == '__main__':
    main(*sys.argv[1:], source=sys.stdin.buffer)
