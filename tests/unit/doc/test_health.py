"""Every problem and every metric is explained."""

from __future__ import annotations

import inspect
from pathlib import Path
import re
import threading

import fixtures
from prometheus_client import parser

from easystack_image.blockstore import engine
from easystack_image.blockstore.local import health
from easystack_image.blockstore.local import metrics
from easystack_image.middleware import healthcheck
from tests.unit.blockstore.local import base
from tests.unit.doc import guide

PAGE = (guide.SOURCE / 'health.rst').read_text()
_MADE = re.compile(
    r"(?:Problem\((?:[^']|\n)*?|_outage\()'([a-z-]+)'", re.DOTALL)


class ProblemsTest(base.LabTest):

    def test_each_is_explained(self) -> None:
        made = {name for module in (health, healthcheck)
                for name in _MADE.findall(inspect.getsource(module))}
        self.assertGreaterEqual(len(made), 20)
        section = PAGE.partition('\nProblems\n')[2].partition(
            '\n.. _metrics:')[0]
        explained = {name for line in section.splitlines()
                     if line.startswith('``')
                     for name in re.findall('``([a-z-]+)``', line)}
        self.assertEqual(made, explained)

    def test_severities(self) -> None:
        self.assertEqual({'critical', 'warning'}, {
            severity.value for severity in engine.Severity})


class MetricsTest(base.LabTest):

    def test_each_is_explained(self) -> None:
        path = Path(self.useFixture(fixtures.TempDir()).path) / 'a.prom'
        made = self.lab.engine(metrics_file=str(path))
        made.write(self.image_id(), base.Source(b'data'))
        made.healer(lambda status: None).round(threading.Event())
        for name in ('status.json', 'members.json'):
            for device in self.devices:
                self.addCleanup(Path(device, name).unlink)
        section = PAGE.partition('\n.. _metrics:')[2].partition(
            '.. code-block:: yaml')[0]
        explained = set(re.findall('^``([a-z_]+)``|, ``([a-z_]+)``',
                                   section, re.MULTILINE))
        names = {name for pair in explained for name in pair if name}
        found = {sample.name for family in
                 parser.text_string_to_metric_families(path.read_text())
                 for sample in family.samples}
        for name in found:
            self.assertIn(name.removeprefix(metrics.PREFIX), names)

    def test_alerts_use_what_there_is(self) -> None:
        rules = PAGE.partition('.. code-block:: yaml')[2]
        used = set(re.findall(r'easystack_block_(\w+)', rules))
        self.assertGreaterEqual(len(used), 5)
        table = PAGE.partition('\n.. _metrics:')[2]
        for name in used:
            self.assertIn(f'``{name}``', table)
