"""Releases are exchanged under load, and nobody notices."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import tempfile
from typing import ClassVar

import testtools
from testtools import content as attachments

from tests.functional import processes
from tests.ota import baselines
from tests.ota import measure
from tests.ota import releases
from tests.ota import results
from tests.ota import site as site_module

#: Upgrades and rollbacks.
EXCHANGES = int(os.environ.get('EASYSTACK_TEST_UPGRADES', 20))
#: How long clients wait, compared with those of the bench, which measures
#: times: here it is counted who gets no answer, beside other tests.
PATIENCE = 3.0
#: Seconds that nobody may wait for any answer, on a busy machine, too.
LONGEST = 5.0


class TestLoad(testtools.TestCase):
    """Glance 32 to 33 and back, and from plugin to plugin."""

    site: ClassVar[site_module.Site]
    archives: ClassVar[list[Path]]
    slots: ClassVar[list[Path]]
    runs: ClassVar[list[results.Run]] = []

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        root = Path(tempfile.mkdtemp(prefix='ota-')).resolve()
        cls.addClassCleanup(shutil.rmtree, root)
        workshop = releases.Workshop(root)
        cls.site = site_module.Site(root)
        cls.site.prepare()
        cls.archives = [workshop.archive(content)
                        for content in measure.CONTENTS]
        cls.slots = [cls.site.build_slot(path) for path in cls.archives]
        publisher = releases.Publisher(Path(tempfile.mkdtemp(dir=root)))
        publisher.publish(*cls.archives)
        cls.site.configure(publisher, soak=1)
        cls.addClassCleanup(cls.report)

    @classmethod
    def report(cls) -> None:
        """Write the figures where EASYSTACK_TEST_REPORT says."""
        path = os.environ.get('EASYSTACK_TEST_REPORT')
        if path:
            Path(path).write_text(json.dumps(
                [run.record() for run in cls.runs], indent=2) + '\n')

    def note(self, run: results.Run) -> None:
        """Keep figures for the report, and show them if the test fails."""
        self.runs.append(run)
        self.addDetail('figures', attachments.text_content(
            results.table([run]) + '\n' + json.dumps(run.record()[
                'reasons'], indent=1)))

    def test_slots(self) -> None:
        """Each slot has its own Glance, and its own plugin."""
        self.assertEqual(
            [{'glance': content.glance, 'easystack-image': content.plugin}
             for content in measure.CONTENTS],
            [releases.versions(slot, ['glance', 'easystack-image'])
             for slot in self.slots])

    def check(self, run: results.Run) -> None:
        """See that nothing failed, and nothing was cut."""
        self.note(run)
        found = results.outcomes(run.answers)
        self.assertEqual({'failed': 0, 'refused': 0, 'truncated': 0},
                         {name: found[name] for name in results.BAD})
        # One upload went through it all.
        endless, = (answer for answer in run.answers
                    if answer.kind == 'endless-put')
        self.assertLess(endless.begin, run.during[0].begin)
        self.assertGreater(endless.begin + endless.seconds,
                           run.during[-1].end)

    def test_exchanges(self) -> None:
        """As an operator does it, from a repository that is signed."""
        try:
            run = measure.exchange(self.site, EXCHANGES, PATIENCE)
        except processes.ProcessFailed as error:
            logs = {path.name: path.read_text(errors='replace')[-3000:]
                    for path in self.site.run_directory.glob('logs/*')}
            self.fail(f'{error}\n{json.dumps(logs, indent=1)}')
        self.check(run)
        status = json.loads(self.site.ota('status', '-f', 'json',
                                          accept=(0, 3)))
        self.assertEqual('33.0.0', status['current']['version'])
        self.assertGreaterEqual(run.exchanges, EXCHANGES)
        # Answers came from every instance.
        self.assertGreater(len({answer.process for answer in run.answers}),
                           run.exchanges)
        self.assertLess(results.longest_gap(run.answers), LONGEST)

    def test_other_ways(self) -> None:
        """What is exchanged in other ways is noticed, by the same load."""
        for method in baselines.METHODS:
            run = baselines.measure(self.site, self.slots[-1], method)
            self.note(run)
            found = results.outcomes(run.answers)
            self.assertGreater(sum(found[name] for name in results.BAD), 0,
                               method)
