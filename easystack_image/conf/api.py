"""Options of the filter ``easystack_api``."""

from __future__ import annotations

from oslo_config import cfg
from oslo_config import types

GROUP = 'easystack_api'

OPTS = [
    cfg.ListOpt(
        'modifiable_states', default=['active', 'queued'],
        item_type=types.String(choices=[
            'active', 'deactivated', 'importing', 'queued', 'saving',
            'uploading'], ignore_case=True),
        help='In which states the properties of an image may be changed '
             '(PATCH), separated by commas. In any other the answer is 409. '
             'Empty: in all of them, as in Glance.'),
    cfg.BoolOpt(
        'links', default=False,
        help='Show with each image, in lists and by itself, the links '
             '"self", "bookmark" and "alternate". Clients that hold what '
             'they get against the schema of an image refuse them.'),
    cfg.IntOpt(
        'max_body_kib', default=4096, min=16, max=1048576,
        help='How large the body of a request in JSON may be, in KiB; the '
             'data of images is none. The answer to a larger one is 413.'),
]


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration."""
    conf.register_opts(OPTS, group=GROUP)
