"""Medians, ratios and verdicts."""

from __future__ import annotations

import testtools

from tests.bench import results
from tests.bench import targets

MIB = results.MIB
FILE = results.Key('driver', 'add', 'random', 'file')
BLOCK = results.Key('driver', 'add', 'random', 'block-3')
MD5 = results.Key('limits', 'md5', '', '')


def samples(*seconds: float, size: int = 100 * MIB,
            peak: float | None = None) -> list[results.Sample]:
    return [results.Sample(size, second, cpu_seconds=2 * second,
                           peak_mib=peak) for second in seconds]


class SummaryTest(testtools.TestCase):

    def test_median_extremes_and_costs(self) -> None:
        summary = results.summarise([
            results.Sample(512 * MIB, 2, cpu_seconds=1, peak_mib=3),
            results.Sample(512 * MIB, 1, cpu_seconds=2, peak_mib=9),
            results.Sample(512 * MIB, 4, cpu_seconds=7, peak_mib=5)])
        self.assertEqual((256, 128, 512),
                         (summary.median, summary.lowest, summary.highest))
        self.assertEqual(3, summary.rounds)
        self.assertEqual(4, summary.cpu_seconds_per_gib)
        # The worst round counts, not the middle one.
        self.assertEqual(9, summary.peak_mib)
        self.assertIsNone(summary.client_cpu_seconds_per_gib)

    def test_what_was_not_measured_stays_unknown(self) -> None:
        summary = results.summarise([results.Sample(MIB, 1)])
        self.assertIsNone(summary.cpu_seconds_per_gib)
        self.assertIsNone(summary.peak_mib)

    def test_no_samples(self) -> None:
        self.assertRaises(ValueError, results.summarise, [])

    def test_ratio_is_that_of_the_medians(self) -> None:
        found = results.summarise_all(
            {BLOCK: samples(1, 2, 8), FILE: samples(4, 5, 3)}, {})
        self.assertEqual(2, found[BLOCK].ratio)
        self.assertEqual(1, found[FILE].ratio)

    def test_limits_are_compared_with_what_they_limit(self) -> None:
        found = results.summarise_all(
            {MD5: samples(1), FILE: samples(3)}, {'md5': 'add'})
        self.assertEqual(3, found[MD5].ratio)

    def test_upkeep_is_compared_with_what_does_the_same_plainly(self) -> None:
        scrub = results.Key('upkeep', 'scrub', 'large', '')
        plain = results.Key('upkeep', 'read', 'large', '')
        found = results.summarise_all(
            {scrub: samples(4), plain: samples(3)}, {'scrub': 'read'})
        self.assertEqual((0.75, 1), (found[scrub].ratio, found[plain].ratio))
        target = targets.RatioTarget('scrub', scrub, 0.8, 'read')
        verdict = target.judge(found)
        self.assertIs(False, verdict.met)
        self.assertEqual('≥ 0.80 × read', verdict.wanted)

    def test_what_is_told_in_images(self) -> None:
        summary = results.summarise([
            results.Sample(MIB, seconds, cpu_seconds=seconds / 2, images=70)
            for seconds in (3, 1, 2)])
        self.assertEqual((70, 2, 1), (summary.images, summary.seconds,
                                      summary.cpu_seconds))
        self.assertIsNone(results.summarise(samples(1)).images)

    def test_without_a_baseline_there_is_no_ratio(self) -> None:
        found = results.summarise_all({BLOCK: samples(1)}, {})
        self.assertIsNone(found[BLOCK].ratio)


class VerdictTest(testtools.TestCase):

    target = targets.RatioTarget('add', BLOCK, 1.3)
    memory = targets.MemoryTarget('memory', 'driver', 64)

    def judge(self, target: targets.Target,
              **found: list[results.Sample]) -> targets.Verdict:
        keys = {'file': FILE, 'block': BLOCK}
        return targets.judge([target], results.summarise_all(
            {keys[name]: values for name, values in found.items()}, {}))[0]

    def test_ratio(self) -> None:
        for seconds, met in ((1, True), (1.0004, False), (0.9, True)):
            verdict = self.judge(self.target, file=samples(1.3),
                                 block=samples(seconds))
            self.assertIs(met, verdict.met, seconds)

    def test_nothing_to_compare(self) -> None:
        self.assertIsNone(self.judge(self.target, file=samples(1)).met)
        self.assertIsNone(self.judge(self.target, block=samples(1)).met)

    def test_pair(self) -> None:
        short = results.Key('ceph', 'add, short reads', 'random', 'ours')
        whole = results.Key('ceph', 'add', 'random', 'ours')
        target = targets.PairTarget('short reads', short, whole, 0.9)
        for seconds, met in ((1, True), (1.12, False), (0.5, True)):
            verdict = target.judge(results.summarise_all(
                {short: samples(seconds), whole: samples(1)}, {}))
            self.assertIs(met, verdict.met, seconds)
        for alone in (short, whole):
            self.assertIsNone(target.judge(results.summarise_all(
                {alone: samples(1)}, {})).met)

    def test_pair_by_images(self) -> None:
        """Tables and JSON have other sizes, and list the same."""
        table = results.Key('export', 'all', '', 'CSV')
        pages = results.Key('export', 'all', '', 'JSON, 1000 a page')
        target = targets.PairTarget('list', table, pages, 1, by='images')
        for seconds, met in ((1, True), (1.01, False)):
            verdict = target.judge(results.summarise_all({
                table: [results.Sample(1, seconds, images=7)],
                pages: [results.Sample(9, 1, images=7)]}, {}))
            self.assertIs(met, verdict.met, seconds)

    def test_cost(self) -> None:
        """The rounds are compared one by one."""
        ours = results.Key('api', 'show', '', 'ours')
        theirs = results.Key('api', 'show', '', 'vanilla')
        target = targets.CostTarget('show', ours, 1.05)
        for seconds, cost in (((1, 2.1, 9), 1.05), ((1.1, 2, 9), 1.1)):
            found = results.summarise_all({
                ours: [results.Sample(1, each) for each in seconds],
                theirs: [results.Sample(1, each) for each in (1, 2, 8)]}, {})
            self.assertAlmostEqual(cost, found[ours].cost or 0)
            self.assertIs(cost <= 1.05, target.judge(found).met)
            self.assertEqual(1, found[theirs].cost)
        self.assertIsNone(target.judge({}).met)

    def test_time(self) -> None:
        key = results.Key('export', 'first byte', '', 'CSV')
        target = targets.TimeTarget('first byte', key, 1)
        for seconds, met in ((1, True), (1.001, False)):
            self.assertIs(met, target.judge(results.summarise_all(
                {key: samples(seconds)}, {})).met)
        self.assertIsNone(target.judge({}).met)

    def test_memory_of_one(self) -> None:
        table = results.Key('export', 'all', '', 'CSV')
        pages = results.Key('export', 'part', '', 'JSON, 20 a page')
        found = results.summarise_all({table: samples(1, peak=3),
                                       pages: samples(1, peak=99)}, {})
        for store, met in (('CSV', True), ('', False)):
            self.assertIs(met, targets.MemoryTarget(
                'memory', 'export', 64, store).judge(found).met)

    def test_another_level_has_another_baseline(self) -> None:
        ours = results.Key('ceph', 'get', 'random', 'ours')
        theirs = results.Key('ceph', 'get', 'random', 'rbd')
        found = results.summarise_all(
            {ours: samples(1, peak=3), theirs: samples(2, peak=99)}, {})
        self.assertEqual(2, found[ours].ratio)
        self.assertTrue(targets.MemoryTarget('memory', 'ceph', 64)
                        .judge(found).met)

    def test_memory(self) -> None:
        for peak, met in ((64, True), (64.1, False)):
            verdict = self.judge(self.memory,
                                 block=samples(1, peak=peak))
            self.assertIs(met, verdict.met, peak)
            self.assertIn('block-3', verdict.measured)

    def test_memory_of_the_file_driver_is_not_judged(self) -> None:
        verdict = self.judge(self.memory, file=samples(1, peak=900),
                             block=samples(1, peak=3))
        self.assertTrue(verdict.met)

    def test_memory_of_the_worst_store_is_judged(self) -> None:
        other = results.Key('driver', 'get', 'random', 'block-1')
        verdict = self.memory.judge(results.summarise_all(
            {BLOCK: samples(1, peak=3), other: samples(1, peak=70)}, {}))
        self.assertFalse(verdict.met)
        self.assertIn('70.0 MiB (block-1, get)', verdict.measured)

    def test_memory_that_could_not_be_measured(self) -> None:
        self.assertIsNone(self.judge(self.memory, block=samples(1)).met)


class DisturbanceTest(testtools.TestCase):

    def test_share_of_all_processors(self) -> None:
        found = [results.Sample(MIB, 1, other_cpu_seconds=0.5),
                 results.Sample(MIB, 3, other_cpu_seconds=1.5),
                 results.Sample(MIB, 5)]
        self.assertEqual(0.25, results.disturbance(found, 2))

    def test_nothing_known(self) -> None:
        self.assertEqual(0, results.disturbance([results.Sample(MIB, 1)], 2))


class RotationTest(testtools.TestCase):

    def test_each_comes_first_in_turn(self) -> None:
        turns = [results.rotated('abc', turn) for turn in range(4)]
        self.assertEqual(['abc', 'bca', 'cab', 'abc'],
                         [''.join(turn) for turn in turns])
