"""Options of a store that uses the ``easystack_block`` driver.

They live in the group of the store (``[my_store]``, named in Glance's
``enabled_backends``); glance_store registers them there from
``Store.OPTIONS``.
"""

from typing import Any

from oslo_config import cfg

PREFIX = 'easystack_block_'

OPTS = [
    cfg.StrOpt(
        'easystack_block_engine', default='local',
        help='Name of the engine that keeps the copies: an entry point of '
             '"easystack_image.block_engines". "local" keeps them on the '
             'devices of this machine, "ceph" in a pool of a Ceph '
             'cluster.'),
    cfg.ListOpt(
        'easystack_block_devices', default=[],
        help='Absolute paths of the directories that hold the copies, one '
             'per disk, separated by commas. Each must have been prepared '
             'with "easystack-image-manage device init". Used by the '
             '"local" engine.'),
    cfg.IntOpt(
        'easystack_block_copies', default=3, min=1, max=16,
        help='How many copies of each image to keep, each on a device of its '
             'own (number). With the "ceph" engine: the least "size" that '
             'the pool must have.'),
    cfg.IntOpt(
        'easystack_block_min_copies', default=2, min=1, max=16,
        help='How many copies must be durable before an upload is '
             'acknowledged (number, at most easystack_block_copies). The '
             'missing ones are made up for by repair. With the "ceph" '
             'engine: the least "min_size" that the pool must have.'),
    cfg.IntOpt(
        'easystack_block_io_timeout', default=30, min=1, max=3600,
        help='How long one operation on a device (a block of 4 MiB, a sync, '
             'a rename) may take, in seconds. A device that takes longer is '
             'left out of the upload, and a download goes on from the next '
             'copy.'),
    cfg.BoolOpt(
        'easystack_block_allow_shared_disk', default=False,
        help='Accept several devices on one disk. For trying out and for '
             'tests only: the copies then die together.'),
    cfg.BoolOpt(
        'easystack_block_direct_io', default=True,
        help='Write past the page cache (O_DIRECT) where the file system '
             'allows it.'),
    cfg.BoolOpt(
        'easystack_block_self_repair', default=True,
        help='Repair in the background what uploads and downloads found '
             'missing or damaged.'),
    cfg.IntOpt(
        'easystack_block_sweep_interval', default=300, min=5, max=86400,
        help='How often a process that serves images looks for leftovers of '
             'crashed uploads and for images that wait for repair, in '
             'seconds.'),
    cfg.IntOpt(
        'easystack_block_heal_interval', default=60, min=1, max=86400,
        help='How often the healer ("easystack-image-manage heal") looks for '
             'images that lack copies or have them in the wrong place, in '
             'seconds.'),
    cfg.FloatOpt(
        'easystack_block_scrub_period', default=14.0, min=0.001, max=3650.0,
        help='Within how many days the healer reads and verifies all of '
             'every copy.'),
    cfg.FloatOpt(
        'easystack_block_scrub_rate', default=50.0, min=0.0, max=1e6,
        help='How fast the healer may read to verify copies, in MiB/s over '
             'all devices together; 0 for as fast as it can. If that is too '
             'slow for easystack_block_scrub_period, the healer says so.'),
    cfg.IntOpt(
        'easystack_block_absent_grace', default=3600, min=0, max=31536000,
        help='How long a device may be away before the healer makes up for '
             'its copies on other devices, in seconds.'),
    cfg.FloatOpt(
        'easystack_block_quarantine_ttl', default=30.0, min=0.0, max=3650.0,
        help='For how many days the healer keeps bad copies that were put '
             'aside.'),
    cfg.FloatOpt(
        'easystack_block_deleted_ttl', default=180.0, min=0.0, max=3650.0,
        help='For how many days a deletion is remembered. A device that was '
             'away for longer may bring deleted data back, which no image '
             'refers to.'),
    cfg.FloatOpt(
        'easystack_block_nearly_full', default=85.0, min=1.0, max=100.0,
        help='From which percentage of its room in use on a device is '
             'reported as nearly full.'),
    cfg.StrOpt(
        'easystack_block_metrics_file', default='',
        help='Absolute path of a file that the healer writes metrics to '
             'after each of its rounds, in the text format of Prometheus: '
             'for the textfile collector of node-exporter, so let its name '
             'end in ".prom", and each store have a file of its own. Empty: '
             'none is written.'),
    cfg.StrOpt(
        'easystack_block_ceph_pool', default='images',
        help='Name of the pool that the images are in. This and the next '
             'options are for the "ceph" engine.'),
    cfg.StrOpt(
        'easystack_block_ceph_user', default='glance',
        help='Name of the Ceph user that Glance is, without "client.". It '
             "needs the capabilities mon 'profile rbd' and osd 'profile rbd "
             "pool=POOL'."),
    cfg.StrOpt(
        'easystack_block_ceph_conf', default='/etc/ceph/ceph.conf',
        help='Absolute path of the configuration file of Ceph, which names '
             "the monitors and the user's keyring."),
    cfg.IntOpt(
        'easystack_block_ceph_object_size_mib', default=8, min=1, max=32,
        help='Size of the objects that a new image is cut into, in MiB: 1, '
             '2, 4, 8, 16 or 32.'),
    cfg.IntOpt(
        'easystack_block_ceph_timeout', default=30, min=1, max=3600,
        help='How long one operation of the cluster may take, in seconds. '
             'What is made of several operations ends within three times as '
             'long.'),
    cfg.IntOpt(
        'easystack_block_ceph_queue_depth', default=8, min=1, max=64,
        help='How many writes of 4 MiB each upload, and reads of 1 MiB each '
             'download, may have under way (number). More need more '
             'memory.'),
]


def options_of(group: Any) -> dict[str, Any]:
    """Return the options of a store, without their prefix.

    :param group: what has them as attributes
    """
    return {opt.dest.removeprefix(PREFIX): getattr(group, opt.dest)
            for opt in OPTS}
