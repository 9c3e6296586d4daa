"""What Prometheus is told of a store.

The healer writes a file after each of its rounds, for the textfile collector
of node-exporter: so the store needs no port of its own, and Glance's workers
nothing in common.  Times are given as such, not as ages, which would be
wrong as soon as they are written: ``time() - x`` is the age.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import logging

import prometheus_client
from prometheus_client import core
from prometheus_client import registry

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import health
from easystack_image.blockstore.local import probe
from easystack_image.blockstore.local import status as status_module

LOG = logging.getLogger(__name__)

PREFIX = 'easystack_block_'
#: What a device can be: not to be asked is a state, too.
STATES = (device_module.ACTIVE, device_module.DRAINING, 'unavailable')

#: From a field of the status: the metric, and what it is.
_GAUGES = {
    'images': ('images', 'Images in the store.'),
    'size': ('copies_bytes', 'Size of all copies together.'),
    'allocated': ('copies_allocated_bytes',
                  'What all copies take on the disks: less, with holes.'),
    'below_copies': ('images_below_copies',
                     'Images with fewer copies within reach than wanted.'),
    'below_min_copies': ('images_below_min_copies',
                         'Images with fewer copies within reach than an '
                         'upload needs.'),
    'lost': ('images_lost', 'Images without a good copy within reach.'),
    'waiting': ('images_waiting', 'Images with a repair to come.'),
    'failing': ('images_failing', 'Images that could not be repaired.'),
    'misplaced': ('images_misplaced',
                  'Images with copies that are not where they belong.'),
    'quarantined': ('quarantined_copies', 'Bad copies that were put aside.'),
    'written_at': ('last_round_timestamp_seconds',
                   'When a round of the healer ended last.'),
    'interval': ('round_interval_seconds',
                 'From one round of the healer to the next.'),
}
_COUNTERS = {
    'scrubbed_bytes': ('scrubbed_bytes', 'Read by scrubs.'),
    'found_bad': ('bad_copies_found', 'Bad or missing copies found by '
                                      'scrubs.'),
    'repaired': ('images_repaired', 'Images repaired.'),
    'moved': ('copies_moved', 'Copies made where they belong.'),
}


class _Snapshot(registry.Collector):
    """How a store was at one moment."""

    def __init__(self, store: str, status: status_module.Status,
                 probes: Mapping[str, probe.Probe],
                 failures: Mapping[str, exceptions.DeviceError],
                 problems: list[engine_module.Problem]) -> None:
        self._store = store
        self._status = status
        self._probes = probes
        self._failures = failures
        self._problems = problems

    def collect(self) -> Iterator[core.Metric]:
        """Yield the metrics."""
        for field, (name, text) in _GAUGES.items():
            yield self._metric(core.GaugeMetricFamily, name, text, field)
        for field, (name, text) in _COUNTERS.items():
            yield self._metric(core.CounterMetricFamily, name, text, field)
        # Without a copy there is nothing to tell.
        if self._status.oldest_verified_at:
            yield self._metric(
                core.GaugeMetricFamily,
                'oldest_verification_timestamp_seconds',
                'When the copy was verified that was not for longest.',
                'oldest_verified_at')
        yield from self._devices()
        problems = core.GaugeMetricFamily(
            f'{PREFIX}problems', 'What an operator should know of.',
            labels=['store', 'severity'])
        for severity in engine_module.Severity:
            problems.add_metric([self._store, severity.value], sum(
                problem.severity is severity for problem in self._problems))
        yield problems

    def _metric(self, kind: type[core.GaugeMetricFamily]
                | type[core.CounterMetricFamily], name: str, text: str,
                field: str) -> core.Metric:
        metric = kind(f'{PREFIX}{name}', text, labels=['store'])
        metric.add_metric([self._store], getattr(self._status, field))
        return metric

    def _devices(self) -> Iterator[core.Metric]:
        size = core.GaugeMetricFamily(
            f'{PREFIX}device_size_bytes', 'Room on a device, used or not.',
            labels=['store', 'device', 'zone'])
        free = core.GaugeMetricFamily(
            f'{PREFIX}device_free_bytes', 'Room that may still be used.',
            labels=['store', 'device', 'zone'])
        state = core.GaugeMetricFamily(
            f'{PREFIX}device_state', 'Which state a device is in.',
            labels=['store', 'device', 'state'])
        for path, each in self._probes.items():
            labels = [self._store, path, each.identity.zone]
            size.add_metric(labels, each.total)
            free.add_metric(labels, each.free)
        for path in sorted({*self._probes, *self._failures}):
            now = (self._probes[path].identity.state
                   if path in self._probes else 'unavailable')
            for which in STATES:
                state.add_metric([self._store, path, which],
                                 float(which == now))
        yield from (size, free, state)


def write(store: health.Store, status: status_module.Status,
          path: str) -> None:
    """Write the metrics of a store to a file, in one step.

    Nothing depends on it: a failure is logged, and tried again by the next
    round.

    :param path: absolute
    """
    probes, failures = probe.run(store.fleet, health.PATIENCE)
    snapshot = registry.CollectorRegistry()
    snapshot.register(_Snapshot(
        store.settings.store_name or store.fleet.store_id or '', status,
        probes, failures, health.judge(store, probes, failures)))
    try:
        prometheus_client.write_to_textfile(path, snapshot)
    except OSError as error:
        LOG.error('The metrics cannot be written to %(path)s: %(error)s. '
                  'Create its directory, and let the user of the healer '
                  'write to it.', {'path': path, 'error': error.strerror})
