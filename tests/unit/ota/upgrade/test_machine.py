"""The machine: what ends how, and the updater's death at every point."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import copy
import dataclasses
import errno
import functools
import io
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import threading
import time
from typing import Any
from unittest import mock

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.cmd.ota import main
from easystack_image.cmd.ota import output
from easystack_image.ota import home as homes
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers
from easystack_image.ota.client import updater
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.serving import standing
from easystack_image.ota.slots import seal
from easystack_image.ota.upgrade import beginning
from easystack_image.ota.upgrade import canary
from easystack_image.ota.upgrade import machine
from easystack_image.ota.upgrade import plans
from easystack_image.ota.upgrade import returning
from easystack_image.ota.upgrade import state
from easystack_image.ota.upgrade import work as works
from easystack_image.ota.upgrade.steps import database
from tests.unit.ota import base
from tests.unit.ota.upgrade import world as worlds

POINTS = os.environ.get('EASYSTACK_TEST_POINTS', '')
#: How many are tried of each action, if not all.
SOME = 5
#: What an upgrade changes, besides the pointer and what others go by.
CHANGING = ('state', 'run', 'opt/generations')
STANDING = f'opt/{standing.NAME}'
OLD, NEW, CONTRACTING = '1.0.0', '2.0.0', '3.0.0'


class Channel:
    """A channel, as a client sees it, that offers some releases."""

    def __init__(self, releases: list[declarations.Declaration],
                 settings: object,
                 installed: declarations.Declaration | None) -> None:
        self._offers = [offers.Offer(each) for each in reversed(releases)]
        self._installed = installed

    def check(self, accept_clock: bool = False) -> updater.Status:
        return updater.Status('stable', self._installed, self._offers,
                              offers.choose(self._offers, None,
                                            self._installed), '')


class MachineCase(base.Case):
    """A world in which release 1.0.0 serves."""

    def setUp(self) -> None:
        super().setUp()
        # Sockets, which are never made here, need short paths.
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.world = worlds.World(self.root)
        for number, version in enumerate((OLD, NEW), 1):
            self.world.make_slot(version, number)
        self.world.make_slot(CONTRACTING, 3, ['expand', 'contract'])
        self.canary_fails = self.canary_waits = ''
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.canary.run', self.run_canary))
        self.begin(OLD, Kind.INSTALL)
        self.world.watched = True

    def run_canary(self, *_: object) -> canary.Report:
        if self.canary_waits:
            raise exceptions.NotNow(self.canary_waits)
        if self.canary_fails:
            raise exceptions.CanaryFailed(self.canary_fails)
        return canary.Report('', 0, {}, 0)

    def begin(self, target: str, kind: Kind = Kind.UPGRADE,
              until: Step | None = None, **options: Any) -> machine.Result:
        """Begin an upgrade whose slot is there, and do it."""
        return worlds.begin(self.world.tools(), target, kind, until,
                            **options)

    def order(self, version: str | None = None,
              kind: Kind = Kind.UPGRADE, until: Step | None = None,
              **others: Any) -> machine.Result | None:
        """Do what an operator orders, of what there are slots of."""
        tools = self.world.tools()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.client.updater.Client',
            functools.partial(Channel, [slot.release
                                        for slot in tools.slots.all()])))
        return beginning.begin(tools, beginning.Order(
            kind, version, until=until, soak=0, drain_timeout=0.01,
            **others),
            lambda done, size: None)

    def resume(self) -> machine.Result | None:
        return machine.resume(self.world.tools())

    def roll_back(self) -> machine.Result:
        return returning.roll_back(self.world.tools())

    def serves(self, version: str) -> None:
        """See that a release serves, alone, and after a reboot as well."""
        tools = self.world.tools()
        self.assertEqual({version}, self.world.serving())
        self.assertEqual(1, len(self.world.running), self.world.running)
        self.assertTrue(all(each.wanted for each in
                            self.world.running.values()))
        self.assertEqual(version, tools.slots.current().release.version)
        self.assertIsNotNone(tools.journal.history()[-1].outcome)
        self.assertEqual([], self.world.unserved)

    def hook(self, point: str, code: int) -> Path:
        """Put an executable of the deployer's in place."""
        path = self.root / 'hooks' / point / 'ours'
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "no room" >&2\nexit {code}\n')
        path.chmod(0o755)
        return path


class TestEnds(MachineCase):

    def test_committed(self) -> None:
        result = self.begin(NEW)
        self.assertEqual((Outcome.COMMITTED, ''),
                         (result.outcome, result.reason))
        self.serves(NEW)
        last = self.world.tools().journal.history()[-1]
        for step in plans.ALL:
            self.assertIs(Event.DONE, last.event(step))
            # As hooks are told.
            self.assertEqual(1, last.begun(step))
        self.assertEqual(1, memories.load(self.world.tools().home).floor)

    def test_canary_fails(self) -> None:
        self.canary_fails = 'other bytes'
        result = self.begin(NEW)
        self.assertEqual((Outcome.ROLLED_BACK, 'other bytes'),
                         (result.outcome, result.reason))
        self.serves(OLD)
        self.canary_fails = ''
        self.begin(NEW)
        self.serves(NEW)

    def test_does_not_start(self) -> None:
        self.world.broken.add(NEW)
        result = self.begin(NEW)
        self.assertIs(Outcome.ROLLED_BACK, result.outcome)
        self.serves(OLD)
        # There may be a token in it.
        self.assertEqual([], list(self.root.glob('run/i/*/warm')))

    def test_hooks_say_no(self) -> None:
        """At every point that decides, before there is no way back."""
        for step in plans.ALL:
            for when in ('before', 'at', 'after'):
                if (when, step) == ('after', Step.COMMIT):
                    # It is too late to decide.
                    continue
                path = self.hook(f'{when}-{step}', 1)
                result = self.begin(NEW)
                self.assertIn(result.outcome, (Outcome.ROLLED_BACK,
                                               Outcome.ABANDONED))
                self.assertIn('no room', result.reason)
                self.serves(OLD)
                path.unlink()

    def test_hooks_ask_for_time(self) -> None:
        path = self.hook('before-hand-over', 21)
        self.assertRaises(exceptions.NotNow, self.begin, NEW)
        self.assertEqual({OLD}, self.world.serving())
        path.unlink()
        self.assertIs(Outcome.COMMITTED, self.resume().outcome)
        self.serves(NEW)
        self.assertIsNone(self.resume())

    def test_warm_once(self) -> None:
        """What was warm when it was started is not warmed up once more."""
        self.begin(NEW, until=Step.CANARY)
        self.resume()
        self.serves(NEW)
        new, = self.world.running
        self.assertEqual(1, len(self.world.warmed[new]))

    def test_died_before_the_hand_over(self) -> None:
        """Nothing was ever asked of the processes that there are then."""
        self.begin(NEW, until=Step.CANARY)
        new, = (name for name in self.world.running if name.startswith(NEW))
        self.world.running[new].pid += 1
        self.resume()
        self.assertEqual(2, len(self.world.warmed[new]))

    def test_reboot_while_it_soaks(self) -> None:
        """Somebody waits for a rollback again."""
        self.begin(NEW, until=Step.DRAIN)
        standby, = (name for name in self.world.running
                    if name.startswith(OLD))
        self.reboot()
        self.assertIs(Outcome.COMMITTED, self.resume().outcome)
        self.serves(NEW)
        self.assertEqual(2, len(self.world.warmed[standby]))

    def test_only_one(self) -> None:
        self.begin(NEW, until=Step.START)
        error = self.assertRaises(exceptions.JournalError, self.begin, NEW)
        self.assertIn('resume', str(error))
        self.roll_back()
        self.serves(OLD)

    def test_every_step_back(self) -> None:
        for step in plans.ALL[:-1]:
            self.assertIsNone(self.begin(NEW, until=step).outcome)
            self.roll_back()
            self.serves(OLD)

    def test_asked_meanwhile(self) -> None:
        """The other process is asked by a file; hooks are when it comes."""
        path = self.hook('at-drain', 0)
        asked = self.world.tools().asked
        path.write_text(f'#!/bin/sh\ntouch {asked}\n')
        result = self.begin(NEW)
        self.assertEqual((Outcome.ROLLED_BACK, 'a rollback was asked for'),
                         (result.outcome, result.reason))
        self.serves(OLD)

    def test_one_was_about_to_leave(self) -> None:
        """It dies when it has shut a gate, and not yet told the instance."""
        old, = self.world.running
        self.begin(NEW, until=Step.HAND_OVER)
        self.world.running[old].wanted = False
        self.world.place(old).gate.unlink()
        self.roll_back()
        self.serves(OLD)

    def test_cold(self) -> None:
        self.begin(NEW)
        result = self.roll_back()
        self.assertEqual((Kind.ROLLBACK, Outcome.COMMITTED),
                         (result.kind, result.outcome))
        self.serves(OLD)
        self.assertRaises(exceptions.RefusedRelease, self.roll_back)

    def test_cold_without_keystone(self) -> None:
        """Whoever goes back does without a canary; others wait for it."""
        self.begin(NEW)
        self.canary_waits = 'Keystone does not answer'
        self.assertEqual(Outcome.COMMITTED, self.roll_back().outcome)
        self.assertIn('the canary is left out: Keystone does not answer',
                      self.world.said)
        self.serves(OLD)
        self.assertRaises(exceptions.NotNow, self.begin, NEW)
        self.canary_waits = ''
        self.assertEqual(Outcome.COMMITTED, self.resume().outcome)
        self.serves(NEW)

    def test_cold_to_what_was_revoked(self) -> None:
        self.begin(NEW)
        home = self.world.tools().home
        memories.update(home, lambda memory: memory.learn(
            0, 0, {1: 'it leaks'}))
        error = self.assertRaises(exceptions.RefusedRelease, self.roll_back)
        self.assertIn('it leaks', str(error))
        self.serves(NEW)

    def test_reboot(self) -> None:
        """Whatever ran is gone; what the pointer leads to is started."""
        for step in plans.ALL[:-1]:
            self.begin(NEW, until=step)
            self.reboot()
            self.resume()
            self.serves(NEW)
            self.roll_back()
            self.serves(OLD)

    def test_replay(self) -> None:
        """Of an upgrade that did not end then, and did since."""
        self.begin(NEW, until=Step.CANARY)
        shutil.copytree(self.root / 'state', self.root / 'old')
        self.resume()
        self.begin(CONTRACTING)
        self.put_back('journal')
        self.check_replay('it is an old one')
        # Without a trace, but for what is in use.
        self.put_back('')
        self.check_replay(f'{CONTRACTING} is in use')

    def put_back(self, part: str) -> None:
        path = self.root / 'state' / part
        shutil.rmtree(path)
        shutil.copytree(self.root / 'old' / part, path)

    def check_replay(self, words: str) -> None:
        for command in (self.resume, self.roll_back):
            error = self.assertRaises(exceptions.JournalError, command)
            self.assertIn(words, str(error))
        self.assertEqual({CONTRACTING}, self.world.serving())

    def reboot(self) -> None:
        shutil.rmtree(self.root / 'run')
        self.world.running.clear()
        slot = self.world.tools().slots.current()
        name = f'{slot.release.version}.0'
        self.world.start(name, slot.path)
        self.world.place(name).gate.touch()


class TestOrders(MachineCase):
    """What is done without an operator, and what is not."""

    def test_done_already(self) -> None:
        """To order it again changes nothing, and needs no repository."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.beginning._choose', None))
        before = len(self.world.tools().journal.history())
        for kind, version in ((Kind.INSTALL, None), (Kind.INSTALL, OLD),
                              (Kind.UPGRADE, OLD)):
            result = beginning.begin(
                self.world.tools(), beginning.Order(kind, version),
                lambda done, size: None)
            self.assertIsNone(result)
            self.assertIn('installed already', self.world.said[-1])
        self.assertEqual(before, len(self.world.tools().journal.history()))

    def test_install_another(self) -> None:
        error = self.assertRaises(exceptions.RefusedRelease, self.order, NEW,
                                  Kind.INSTALL)
        self.assertIn('"upgrade"', str(error))

    def test_what_was_rolled_back(self) -> None:
        """The newest that there is, when nobody names it."""
        shutil.rmtree(self.root / 'opt/slots' / CONTRACTING)
        self.canary_fails = 'other bytes'
        self.assertIs(Outcome.ROLLED_BACK, self.order().outcome)
        error = self.assertRaises(exceptions.RefusedRelease, self.order)
        for words in (NEW, 'other bytes', '--again'):
            self.assertIn(words, str(error))
        self.canary_fails = ''
        self.assertIs(Outcome.COMMITTED, self.order(again=True).outcome)
        self.serves(NEW)
        # An operator goes back from it.
        self.roll_back()
        self.assertRaises(exceptions.RefusedRelease, self.order)
        self.assertIs(Outcome.COMMITTED, self.order(NEW).outcome)
        self.serves(NEW)

    def test_what_never_began(self) -> None:
        """A check that failed may pass another day."""
        shutil.rmtree(self.root / 'opt/slots' / CONTRACTING)
        path = self.hook('at-check', 1)
        self.assertIs(Outcome.ABANDONED, self.order().outcome)
        path.unlink()
        self.assertIs(Outcome.COMMITTED, self.order().outcome)


class TestCommands(MachineCase):
    """What scripts see: exit codes, and JSON."""

    def run_command(self, *words: str) -> tuple[int, Any]:
        """Run a command in this process; return its code and output."""
        said = io.StringIO()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.tools.make',
            lambda settings, say: self.world.tools()))
        with contextlib.redirect_stdout(said), \
                contextlib.redirect_stderr(io.StringIO()):
            code = main.main([*words, '-f', 'json'])
        return code, json.loads(said.getvalue())

    def test_done_already(self) -> None:
        for words in (('install',), ('install', OLD), ('upgrade', OLD),
                      ('resume',)):
            self.assertEqual((0, {'outcome': None}), self.run_command(*words))
        code, status = self.run_command('status')
        self.assertEqual((0, []), (code, status['attention']))

    def test_did_not_end(self) -> None:
        """Who cannot go back, nor on, says so."""
        self.order(NEW, until=Step.SOAK)
        code, found = self.run_command('upgrade', NEW)
        self.assertEqual((5, None, NEW), (code, found['outcome'],
                                          found['target']))
        self.assertIn('did not end', found['error'])
        code, status = self.run_command('status')
        self.assertEqual(3, code)
        self.assertIn('nobody is at it: resume, or rollback',
                      status['attention'][0])
        with self.world.tools().writer():
            # Somebody is.
            code, status = self.run_command('status')
            self.assertEqual((0, []), (code, status['attention']))
        self.assertEqual(0, self.run_command('rollback')[0])
        self.serves(OLD)

    def test_said_again(self) -> None:
        """Whoever is told to try it later says the same once more."""
        hook = self.hook('at-soak', 21)
        self.assertRaises(exceptions.NotNow, self.order, NEW)
        for words in (('upgrade',), ('upgrade', NEW)):
            code, found = self.run_command(*words)
            self.assertEqual((4, NEW), (code, found['target']), found)
        self.assertEqual(5, self.run_command('upgrade', CONTRACTING)[0])
        hook.unlink()
        code, found = self.run_command('upgrade')
        self.assertEqual((0, 'committed'), (code, found['outcome']))
        self.serves(NEW)
        self.assertEqual(2, len(self.world.tools().journal.history()))

    def test_not_said_again(self) -> None:
        """What goes back goes back."""
        self.begin(NEW, until=Step.SOAK)
        self.world.broken.add(OLD)
        self.assertEqual(5, self.run_command('rollback')[0])
        self.world.broken.clear()
        self.assertEqual(5, self.run_command('upgrade')[0])
        self.assertEqual(0, self.run_command('resume')[0])
        self.serves(OLD)

    def test_locked_by_another(self) -> None:
        """Who waited in vain for a lock leaves something to go on with."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.tools._PATIENCE', 0.1))
        self.begin(NEW, until=Step.CANARY)
        with homes.Home(self.root / 'opt').locked():
            code, found = self.run_command('resume')
        self.assertEqual((4, NEW), (code, found['target']))
        with self.world.tools().writer():
            # That is another's.
            self.assertRaises(ValueError, self.run_command, 'resume')
        self.assertEqual(0, self.run_command('resume')[0])
        self.serves(NEW)

    def test_leaving(self) -> None:
        """One that is at a long upload is not asked: it would not answer."""
        name, = self.world.running
        self.world.busy.add(name)
        self.begin(NEW)

        def answer(instance: Any) -> Any:
            self.assertNotEqual(name, instance.name)
            return real(instance)

        real = worlds.Instance._all
        with fixtures.MonkeyPatch(
                'tests.unit.ota.upgrade.world.Instance._all', answer):
            _, status = self.run_command('status')
        self.assertEqual({name: 'leaving'}, {
            each['name']: each['role'] for each in status['instances']
            if each['release'] == OLD})

    def damage(self, version: str) -> None:
        path = self.root / 'opt/slots' / version / seal.NAME
        path.parent.chmod(0o755)
        path.chmod(0o644)
        path.write_text('{')

    def test_damaged_slot(self) -> None:
        """The one in use: all else is shown."""
        self.damage(OLD)
        code, status = self.run_command('status')
        self.assertEqual((3, [OLD], None), (code, status['damaged'],
                                            status['current']))
        self.assertIn(f'{OLD}, which is in use, is damaged',
                      status['attention'][0])
        self.assertEqual(['serving'], [each['role'] for each
                                       in status['instances']])

    def test_rollback_fails(self) -> None:
        self.begin(NEW, until=Step.SOAK)
        self.world.broken.add(OLD)
        code, found = self.run_command('rollback')
        self.assertEqual((5, None), (code, found['outcome']))
        self.assertIn(OLD, found['error'])
        self.world.broken.clear()
        # It ends as it should.
        code, found = self.run_command('resume')
        self.assertEqual((0, 'rolled-back'), (code, found['outcome']))
        self.serves(OLD)

    def test_rollback_never_ends(self) -> None:
        """What mends the release can be installed, if somebody names it."""
        self.begin(NEW, until=Step.SOAK)
        self.world.broken.add(OLD)
        self.assertRaises(exceptions.OtaError, self.roll_back)
        self.world.make_slot('2.0.1', 4)
        error = self.assertRaises(exceptions.JournalError, self.order)
        self.assertIn('name a release that mends', str(error))
        self.assertIs(Outcome.COMMITTED, self.order('2.0.1').outcome)
        self.serves('2.0.1')
        self.assertEqual('2.0.1', self.world.tools().journal.history()[
            -2].records[-1].details['superseded_by'])

    def test_rollback_that_could_end(self) -> None:
        """What serves on both sides is not for somebody to choose from."""
        self.begin(NEW, until=Step.SOAK)
        with fixtures.MonkeyPatch(
                'easystack_image.ota.upgrade.fleet.Fleet.let_go',
                mock.Mock(side_effect=exceptions.InstanceError('no'))):
            self.assertRaises(exceptions.InstanceError, self.roll_back)
        self.world.make_slot('2.0.1', 4)
        self.assertRaises(exceptions.JournalError, self.order, '2.0.1')

    def test_no_way_back(self) -> None:
        path = self.hook('at-contract', 1)
        self.assertRaises(exceptions.HookFailed, self.begin, CONTRACTING)
        for words in (('resume',), ('rollback',)):
            code, found = self.run_command(*words)
            self.assertEqual((5, CONTRACTING), (code, found['target']))
        path.write_text('#!/bin/sh\nexit 21\n')
        self.assertEqual(4, self.run_command('resume')[0])

    def test_at_boot(self) -> None:
        """One goes on, unless an operator wanted to decide."""
        self.assertIsNone(self.order(NEW, until=Step.SOAK).outcome)
        resume = ('resume', '--unless-told-to-stop')
        self.assertEqual((0, {'outcome': None}), self.run_command(*resume))
        self.assertEqual({NEW}, self.world.serving())
        self.assertEqual(0, self.run_command('rollback')[0])
        # Nobody said so.
        self.begin(NEW, until=Step.DRAIN)
        self.assertEqual('committed',
                         self.run_command(*resume)[1]['outcome'])
        self.serves(NEW)

    def check_stops(self, code: int, words: str) -> None:
        """See that a command leaves it open."""
        found, printed = self.run_command(*words.split())
        self.assertEqual((code, None), (found, printed['outcome']))

    def check_stopped(self) -> None:
        """See that only an operator has it go on, who does."""
        records = len(self.world.tools().journal.history()[-1].records)
        for words, code in (('resume --unless-told-to-stop', 0),
                            ('upgrade', 5), (f'upgrade {NEW}', 5)):
            self.check_stops(code, words)
        self.assertEqual(records, len(
            self.world.tools().journal.history()[-1].records))
        self.assertEqual(0, self.run_command('resume')[0])
        self.serves(NEW)

    def test_interrupted_before_it_stops(self) -> None:
        """Whoever goes on with it stops there."""
        hook = self.hook('at-soak', 21)
        self.assertRaises(exceptions.NotNow, self.order, NEW,
                          until=Step.SOAK)
        hook.unlink()
        self.check_stops(0, 'resume --unless-told-to-stop')
        self.assertIs(Event.DONE, self.world.tools().journal.history()[
            -1].event(Step.SOAK))
        self.check_stopped()

    def test_told_later_to_stop(self) -> None:
        """That is kept from the moment on when it is said."""
        hook = self.hook('at-drain', 21)
        self.assertRaises(exceptions.NotNow, self.order, NEW)
        self.assertRaises(exceptions.NotNow, self.order, NEW,
                          until=Step.SOAK)
        hook.unlink()
        self.check_stops(0, 'upgrade')
        self.check_stopped()

    def test_told_too_late_to_stop(self) -> None:
        """It stops where it is."""
        hook = self.hook('at-soak', 21)
        self.assertRaises(exceptions.NotNow, self.order, NEW)
        self.assertIsNone(self.order(NEW, until=Step.CANARY).outcome)
        hook.unlink()
        self.assertIsNone(self.world.tools().journal.history()[-1].outcome)
        self.check_stopped()

    def wait_to_go_back(self) -> Path:
        """Have a rollback wait; return the hook that makes it so."""
        self.order(NEW)
        hook = self.hook('before-preflight', 21)
        self.assertEqual(4, self.run_command('rollback')[0])
        return hook

    def test_rollback_is_given_up(self) -> None:
        """It waited, and somebody has thought better of it."""
        self.wait_to_go_back()
        # As an updater that was killed with the lock in hand leaves it.
        standing.write(self.root / 'opt', standing.Standing())
        # Who names nothing does not mean that, nor who names nothing good.
        for words in (('upgrade',), ('upgrade', '9.9')):
            self.assertEqual(5, self.run_command(*words)[0])
        self.assertEqual(0, self.run_command('upgrade', NEW)[0])
        self.assertIs(Outcome.ABANDONED, self.world.tools().journal.history()[
            -1].outcome)
        self.assertEqual(NEW, standing.read(self.root / 'opt').settled)
        self.serves(NEW)
        self.assertIsNone(self.resume())

    def test_rollback_gives_way(self) -> None:
        self.wait_to_go_back().unlink()
        self.assertIs(Outcome.COMMITTED, self.order(CONTRACTING).outcome)
        self.serves(CONTRACTING)

    def test_rollback_that_has_started_goes_on(self) -> None:
        self.order(NEW)
        hook = self.hook('after-start', 21)
        self.assertEqual(4, self.run_command('rollback')[0])
        self.assertEqual(5, self.run_command('upgrade', NEW)[0])
        hook.unlink()
        self.assertEqual(0, self.run_command('resume')[0])
        self.serves(OLD)

    def run_check(self, error: Exception | None = None) -> tuple[int, Any]:
        """Run ``check``; return its code, and what it shows.

        :param error: what the repository answers, None for what there is
        """
        def make(settings: object, installed: Any, needed: object) -> Channel:
            channel = Channel([], settings, installed)
            if error is not None:
                channel.check = mock.Mock(side_effect=error)  # type: ignore
            return channel

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.client.updater.Client', make))
        return self.run_command(
            '--state-directory', str(self.root / 'state'),
            '--slots-directory', str(self.root / 'opt'), 'check')

    def test_check_tells(self) -> None:
        self.assertEqual((0, None), self.checked())
        self.begin(NEW, until=Step.SOAK)
        self.damage(NEW)
        code, attention = self.checked()
        self.assertEqual(3, code)
        self.assertIn('nobody is at it', attention)
        self.assertIn(f'{NEW}, which is in use, is damaged', attention)

    def checked(self) -> tuple[int, Any]:
        code, found = self.run_check()
        return code, found['attention']

    def test_check_tells_without_repository(self) -> None:
        """What is known without it."""
        error = exceptions.Unreachable('no route to host')
        # Nothing is, and nothing is shown.
        self.assertRaises(ValueError, self.run_check, error)
        self.begin(NEW, until=Step.SOAK)
        code, found = self.run_check(error)
        self.assertEqual((3, 'no route to host', None), (
            code, found['error'], found['warning']))
        self.assertIn('nobody is at it', found['attention'])
        self.resume()
        memories.update(self.world.tools().home, lambda memory: memory.learn(
            0, 0, {2: 'it loses uploads'}))
        code, found = self.run_check(error)
        self.assertEqual((3, None), (code, found['attention']))
        self.assertIn('it loses uploads', found['warning'])
        self.damage(NEW)
        code, found = self.run_check(error)
        self.assertEqual(3, code)
        self.assertIn('is damaged', found['attention'])

    def test_rolled_back(self) -> None:
        self.begin(NEW, until=Step.START)
        self.canary_fails = 'other bytes'
        code, found = self.run_command('resume')
        self.assertEqual((1, 'rolled-back'), (code, found['outcome']))
        self.serves(OLD)

    def test_nobody_serves(self) -> None:
        for name in list(self.world.running):
            self.world.place(name).gate.unlink()
        code, status = self.run_command('status')
        self.assertEqual((3, ['no instance serves']),
                         (code, status['attention']))

    def test_launcher_is_dead(self) -> None:
        def refuse(_: object) -> None:
            raise exceptions.InstanceError('nobody starts instances')

        self.useFixture(fixtures.MonkeyPatch(
            'tests.unit.ota.upgrade.world.Launcher.list', refuse))
        code, status = self.run_command('status')
        self.assertEqual((3, ['nobody starts instances'], None), (
            code, status['attention'], status['instances']))


class TestHurry(MachineCase):
    """Nothing holds up who goes back."""

    def test_hooks_come_after(self) -> None:
        """The old release serves, and the new one does not, by then."""
        seen = self.root / 'seen'
        gates = f'{self.root}/run/i/*/gate'
        for when in ('before-rollback', 'after-rollback'):
            self.hook(when, 1).write_text(
                f'#!/bin/sh\nls {gates} >> {seen}\nexit 1\n')
        self.begin(NEW, until=Step.DRAIN)
        standby, = (name for name in self.world.running
                    if name.startswith(OLD))
        self.assertIs(Outcome.ROLLED_BACK, self.roll_back().outcome)
        gate = str(self.world.place(standby).gate)
        self.assertEqual([gate, gate], seen.read_text().split())
        self.serves(OLD)

    def standby(self) -> str:
        """Upgrade, up to where a rollback is a matter of a gate."""
        self.begin(NEW, until=Step.DRAIN)
        name, = (name for name in self.world.running if name.startswith(OLD))
        return name

    def test_the_one_that_waits_has_left(self) -> None:
        """It got an upload before, when somebody who was killed went back."""
        name = self.standby()
        tools = self.world.tools()
        worlds.fleet(tools).claim(name, tools.slots.path(OLD))
        self.world.busy.add(name)
        self.hook('at-commit', 21)
        self.assertRaises(exceptions.NotNow, self.resume)
        self.assertTrue(self.world.running[name].leaving)
        self.assertIs(Outcome.ROLLED_BACK, self.roll_back().outcome)
        # Nothing is cut, and another one serves.
        self.assertIn(name, self.world.running)
        self.assertFalse(self.world.place(name).gate.exists())
        del self.world.running[name]
        self.serves(OLD)

    def test_whatever_it_is_at(self) -> None:
        """The one that waits serves: it does not warm up while users wait."""
        for died in (False, True):
            name = self.standby()
            self.assertEqual(1, len(self.world.warmed[name]))
            self.world.running[name].pid += died
            self.roll_back()
            self.serves(OLD)
            self.assertEqual(1, len(self.world.warmed[name]))

    def test_before_anything_is_written(self) -> None:
        """It serves though nobody can say so, as on a full disk."""
        name = self.standby()
        error = OSError(errno.EROFS, 'it is read-only')
        with fixtures.MonkeyPatch(
                'easystack_image.ota.journal.journal.Writer.begin',
                mock.Mock(side_effect=error)):
            self.assertRaises(OSError, self.roll_back)
        self.assertTrue(self.world.place(name).gate.exists())
        # Whoever is resumed then does not leave it behind.
        self.resume()
        self.serves(NEW)

    def test_one_cannot_be_told_to_leave(self) -> None:
        """A reboot starts the old release all the same."""
        for error in (exceptions.InstanceError('no'),
                      OSError(errno.ENOSPC, 'no room')):
            self.standby()
            with fixtures.MonkeyPatch(
                    'easystack_image.ota.upgrade.fleet.Fleet.let_go',
                    mock.Mock(side_effect=error)):
                self.assertRaises(type(error), self.roll_back)
            self.assertEqual(
                OLD, self.world.tools().slots.current().release.version)
            self.assertEqual({OLD, NEW}, self.world.serving())
            self.roll_back()
            self.serves(OLD)

    def test_one_cannot_serve_at_once(self) -> None:
        """Why it is gone back is kept, and somebody goes back later."""
        self.begin(NEW, until=Step.DRAIN)
        full = mock.Mock(side_effect=OSError(errno.ENOSPC, 'no room'))
        path = self.hook('at-soak', 1)
        with fixtures.MonkeyPatch(
                'easystack_image.ota.upgrade.fleet.Fleet.claim', full):
            self.assertRaises(OSError, self.resume)
        path.unlink()
        self.assertIs(Outcome.ROLLED_BACK, self.resume().outcome)
        self.serves(OLD)

    def test_hook_that_takes_long(self) -> None:
        """It is not waited for if somebody wants to go back."""
        asked = self.world.tools().asked
        self.hook('after-hand-over', 0).write_text(
            f'#!/bin/sh\ntouch {asked}\nexec sleep 600\n')
        result = self.begin(NEW)
        self.assertEqual((Outcome.ROLLED_BACK, 'a rollback was asked for'),
                         (result.outcome, result.reason))
        self.serves(OLD)

    def test_hooks_cannot_be_run(self) -> None:
        self.begin(NEW, until=Step.DRAIN)

        def run(*_: object) -> None:
            raise OSError(errno.ENOSPC, 'No space left on device')

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.hooks.calls.HookCaller.run', run))
        self.assertIs(Outcome.ROLLED_BACK, self.roll_back().outcome)
        self.serves(OLD)

    def test_the_slot_is_damaged(self) -> None:
        """It has to leave all the same."""
        self.begin(NEW, until=Step.DRAIN)
        path = self.root / 'opt/slots' / NEW / seal.NAME
        path.parent.chmod(0o755)
        path.unlink()
        path.write_text('{')
        self.assertIs(Outcome.ROLLED_BACK, self.roll_back().outcome)
        self.serves(OLD)

    def test_cold_forced(self) -> None:
        """A hook that asks for time, and a canary without a store."""
        self.begin(NEW)
        self.hook('before-hand-over', 21)
        self.canary_fails = 'the store is down'
        tools = self.world.tools()
        result = returning.roll_back(
            tools, ['before-hand-over/ours', 'canary'])
        self.assertEqual((Kind.ROLLBACK, Outcome.COMMITTED),
                         (result.kind, result.outcome))
        self.assertTrue([text for text in self.world.said
                         if 'the store is down' in text])
        self.serves(OLD)

    def test_no_upgrade_without_canary(self) -> None:
        self.canary_fails = 'other bytes'
        result = self.begin(NEW, forced=['canary'])
        self.assertIs(Outcome.ROLLED_BACK, result.outcome)
        self.serves(OLD)


class TestBoth(MachineCase):
    """Somebody wants to go back while another process is at something."""

    def run_with(self, other: Callable[[], machine.Result], when: str,
                 ) -> tuple[machine.Result, machine.Result]:
        """Have a rollback asked for when another process is at a point.

        :param other: what that process does
        :param when: the point
        :returns: how the two ended
        """
        mark = self.root / 'is-there'
        path = self.hook(when, 0)
        path.write_text(f'#!/bin/sh\ntouch {mark}\nsleep 1\n')
        results: list[machine.Result] = []
        thread = threading.Thread(target=lambda: results.append(other()))
        thread.start()
        self.addCleanup(thread.join)
        while not mark.exists() and thread.is_alive():
            time.sleep(0.01)
        result = self.roll_back()
        thread.join()
        path.unlink()
        mark.unlink()
        return results[0], result

    def test_upgrade(self) -> None:
        """That is what is meant."""
        for when in ('at-check', 'at-drain'):
            other, result = self.run_with(lambda: self.begin(NEW), when)
            self.assertEqual(other, result)
            self.assertIs({'at-check': Outcome.ABANDONED,
                           'at-drain': Outcome.ROLLED_BACK}[when],
                          result.outcome)
            self.serves(OLD)

    def test_rollback(self) -> None:
        """It is not taken back, but waited for."""
        self.begin(NEW)
        other, result = self.run_with(self.roll_back, 'at-start')
        self.assertEqual(other, result)
        self.assertEqual((Kind.ROLLBACK, Outcome.COMMITTED),
                         (result.kind, result.outcome))
        self.serves(OLD)

    def test_rollback_fails(self) -> None:
        """Both hear of it."""
        self.begin(NEW)
        self.canary_fails = 'other bytes'
        other, result = self.run_with(self.roll_back, 'at-start')
        self.assertEqual(other, result)
        self.assertIs(Outcome.ROLLED_BACK, result.outcome)
        self.serves(NEW)

    def test_nothing_was_begun_yet(self) -> None:
        """The release in use is meant: the other one is given up."""
        self.begin(NEW)

        def download() -> machine.Result:
            tools = self.world.tools()
            with tools.writer() as writer:
                (self.root / 'is-there').touch()
                while not tools.asked.exists():
                    time.sleep(0.01)
                upgrade = writer.open(
                    Kind.UPGRADE, NEW, CONTRACTING,
                    digest=tools.slots.get(CONTRACTING).release.digest)
                return machine.Machine(works.Work(
                    tools, writer, upgrade)).run()

        other, result = self.run_with(download, 'at-check')
        self.assertIs(Outcome.ABANDONED, other.outcome)
        self.assertEqual((Kind.ROLLBACK, Outcome.COMMITTED),
                         (result.kind, result.outcome))
        self.serves(OLD)


class TestFull(MachineCase):
    """The disk that the journal is on fills up."""

    def setUp(self) -> None:
        super().setUp()
        self.kept = self.root / 'state/journal/reserve'
        self.full = True

    def fill(self) -> None:
        """Have no room but what is kept for going back."""
        def take(real: Callable[..., object], *args: object) -> object:
            if self.full and self.kept.exists():
                raise OSError(errno.ENOSPC, 'No space left on device')
            return real(*args)

        for name in ('create', 'write_at'):
            self.useFixture(fixtures.MonkeyPatch(
                f'easystack_image.fsio.{name}',
                functools.partial(take, getattr(fsio, name))))

    def test_bad(self) -> None:
        def run(*_: object) -> canary.Report:
            self.fill()
            raise exceptions.CanaryFailed('no room')

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.canary.run', run))
        result = self.begin(NEW)
        self.assertEqual((Outcome.ROLLED_BACK, 'no room'),
                         (result.outcome, result.reason))
        self.serves(OLD)

    def stop(self) -> None:
        """Have a good one stop for want of room."""
        self.begin(NEW, until=Step.DRAIN)
        self.fill()
        error = self.assertRaises(exceptions.NotNow, self.resume)
        self.assertIn('No space left', str(error))
        self.assertEqual({NEW}, self.world.serving())

    def test_good(self) -> None:
        self.stop()
        self.full = False
        self.assertIs(Outcome.COMMITTED, self.resume().outcome)
        self.serves(NEW)

    def test_back(self) -> None:
        self.stop()
        self.assertIs(Outcome.ROLLED_BACK, self.roll_back().outcome)
        self.serves(OLD)


class TestUnwatched(MachineCase):
    """The connection, from which it was begun, drops."""

    def setUp(self) -> None:
        super().setUp()
        reader, writer = os.pipe()
        os.close(reader)
        stream = io.TextIOWrapper(io.FileIO(writer, 'w'), write_through=True)
        self.useFixture(fixtures.MonkeyPatch('sys.stderr', stream))
        self.logged: list[str] = []
        self.useFixture(fixtures.MonkeyPatch(
            'syslog.syslog', lambda level, text: self.logged.append(text)))
        real = self.world.tools
        self.useFixture(fixtures.MonkeyPatch(
            'tests.unit.ota.upgrade.world.World.tools',
            lambda _, **others: dataclasses.replace(
                real(**others), say=output.say)))

    def test_bad(self) -> None:
        self.canary_fails = 'other bytes'
        result = self.begin(NEW)
        self.assertIs(Outcome.ROLLED_BACK, result.outcome)
        self.serves(OLD)
        self.assertIn('easystack-image-ota: rolling back: other bytes',
                      self.logged)

    def test_good(self) -> None:
        self.assertIs(Outcome.COMMITTED, self.begin(NEW).outcome)
        self.serves(NEW)
        self.assertEqual(len(plans.ALL), sum(
            ': done in' in text for text in self.logged))

    def test_hung_up(self) -> None:
        """It goes on; what it starts is ended by that as usual."""
        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        output.outlive_terminal()
        path = self.hook('at-start', 0)
        path.write_text(f'#!/bin/sh\nkill -HUP {os.getpid()}\n'
                        'sh -c "kill -HUP \\$\\$; exit 0" || exit 0\nexit 1\n')
        self.assertIs(Outcome.COMMITTED, self.begin(NEW).outcome)
        self.serves(NEW)


class TestContract(MachineCase):

    def test_waits_for_the_old(self) -> None:
        old, = self.world.running
        self.world.busy.add(old)
        error = self.assertRaises(exceptions.NotNow, self.begin, CONTRACTING)
        self.assertIn(old, str(error))
        # There still is a way back.
        self.assertEqual(3, len(self.world.running))
        self.world.running.pop(old)
        self.assertIs(Outcome.COMMITTED, self.resume().outcome)
        self.serves(CONTRACTING)
        self.assertEqual(3, memories.load(self.world.tools().home).floor)
        error = self.assertRaises(exceptions.RefusedRelease, self.roll_back)
        self.assertIn('contracted', str(error))

    def test_back_while_it_waits(self) -> None:
        old, = self.world.running
        self.world.busy.add(old)
        self.assertRaises(exceptions.NotNow, self.begin, CONTRACTING)
        self.world.running.pop(old)
        self.roll_back()
        self.serves(OLD)

    def test_back_while_a_node_does_not_answer(self) -> None:
        """Whoever wants to go back does not wait for it."""
        asked, over = self.world.tools().asked, threading.Event()
        self.addCleanup(over.set)

        def ask(work: works.Work) -> str:
            asked.touch()
            over.wait(60)
            return ''

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.nodes.behind', ask))
        self.assertIs(Outcome.ROLLED_BACK, self.begin(CONTRACTING).outcome)
        self.assertFalse(over.is_set())
        self.serves(OLD)

    def test_no_way_back(self) -> None:
        """A hook that fails when it contracts is tried again."""
        path = self.hook('at-contract', 1)
        self.assertRaises(exceptions.HookFailed, self.begin, CONTRACTING)
        self.assertEqual({CONTRACTING}, self.world.serving())
        self.assertRaises(exceptions.NoWayBack, self.roll_back)
        advice = state.advice(self.world.tools().journal.history()[-1])
        self.assertNotIn('rollback', advice)
        path.unlink()
        self.assertIs(Outcome.COMMITTED, self.resume().outcome)
        self.serves(CONTRACTING)

    def test_a_service_of_the_old_slot(self) -> None:
        """Whoever forgot to start it again still has a warm way back."""
        slot = self.world.tools().slots.get(OLD).path
        with subprocess.Popen(['/bin/cat'], cwd=slot,
                              stdin=subprocess.PIPE) as forgotten:
            error = self.assertRaises(exceptions.NotNow, self.begin,
                                      CONTRACTING)
            self.assertIn(f'process {forgotten.pid} of {OLD} (cat) must end',
                          str(error))
            self.assertEqual(2, len(self.world.running), self.world.running)
            # What the one that waits consists of is not in the way.
            with fixtures.MonkeyPatch(
                    'easystack_image.ota.upgrade.fleet.Fleet.pid',
                    lambda *_: os.getpid()):
                self.assertIs(Outcome.ROLLED_BACK, self.roll_back().outcome)
                self.begin(CONTRACTING, until=Step.SOAK)
                living = list(database._living(
                    works.Work(self.world.tools(), mock.Mock(), self.last()),
                    {self.waiting()}))
                self.assertEqual([], living)
        self.assertIs(Outcome.COMMITTED, self.resume().outcome)
        self.serves(CONTRACTING)

    def last(self) -> Any:
        return self.world.tools().journal.history()[-1]

    def waiting(self) -> str:
        """Return the name of the instance that waits for a rollback."""
        name, = (name for name in self.world.running
                 if not self.world.place(name).gate.exists())
        return name

    def stop_there(self) -> None:
        """Have a hook keep failing when it contracts."""
        self.hook('at-contract', 1)
        self.assertRaises(exceptions.HookFailed, self.begin, CONTRACTING)

    def test_forced(self) -> None:
        self.stop_there()
        result = machine.resume(self.world.tools(), ['at-contract/ours'])
        self.assertIs(Outcome.COMMITTED, result.outcome)
        self.serves(CONTRACTING)
        last = self.world.tools().journal.history()[-1]
        self.assertEqual(['at-contract/ours'],
                         last.details(Step.CONTRACT)['forced'])

    def test_superseded(self) -> None:
        """By a release that mends it, and by nothing else."""
        self.stop_there()
        error = self.assertRaises(exceptions.JournalError, self.order)
        self.assertIn('did not end', str(error))
        # It is what it fails at.
        self.assertRaises(exceptions.HookFailed, self.order, CONTRACTING)
        self.world.make_slot('4.0.0', 4, ['expand', 'contract'])
        (self.root / 'hooks/at-contract/ours').unlink()
        result = self.order()
        self.assertEqual((CONTRACTING, Outcome.COMMITTED),
                         (result.origin, result.outcome))
        self.serves('4.0.0')
        before = self.world.tools().journal.history()[-2]
        self.assertIs(Outcome.COMMITTED, before.outcome)
        self.assertEqual('4.0.0', before.records[-1].details[
            'superseded_by'])

    def test_superseded_in_vain(self) -> None:
        """There is no way back behind the one that contracted."""
        self.stop_there()
        self.world.make_slot('4.0.0', 4)
        self.canary_fails = 'other bytes'
        self.assertIs(Outcome.ROLLED_BACK, self.order().outcome)
        self.serves(CONTRACTING)
        self.assertEqual(3, memories.load(self.world.tools().home).floor)
        error = self.assertRaises(exceptions.RefusedRelease, self.roll_back)
        self.assertIn('contracted', str(error))

    def test_back_to_the_one_that_contracted(self) -> None:
        """What came later did not change the database."""
        self.begin(CONTRACTING)
        self.world.make_slot('4.0.0', 4)
        self.begin('4.0.0')
        self.assertIs(Outcome.COMMITTED, self.roll_back().outcome)
        self.serves(CONTRACTING)
        error = self.assertRaises(exceptions.RefusedRelease, self.roll_back)
        self.assertIn('contracted', str(error))

    def test_not_the_last_node(self) -> None:
        nodes = 'http://a http://b'
        tools = self.world.tools(nodes=nodes, node_url='http://a')
        with tools.writer() as writer:
            upgrade = writer.open(
                Kind.UPGRADE, OLD, CONTRACTING, soak=0,
                digest=tools.slots.get(CONTRACTING).release.digest)
            result = machine.Machine(works.Work(tools, writer, upgrade)).run()
        self.assertIs(Outcome.COMMITTED, result.outcome)
        self.assertEqual('http://b', upgrade.details(Step.CONTRACT)[
            'left_to'])
        self.roll_back()
        self.serves(OLD)


class TestDeath(MachineCase):
    """The updater dies at every point; another one goes on, or back."""

    def die_everywhere(self, action: Callable[[], object],
                       allowed: tuple[str, ...] = (OLD, NEW)) -> None:
        """Have it die after each number of points; go on, and back.

        After some of all numbers; ``EASYSTACK_TEST_POINTS=all`` takes all.

        :param action: what it is at
        """
        before = self.save()
        with self.world.mortal(None):
            action()
        points = self.world.passed
        self.assertGreater(points, 40)
        apart = 1 if POINTS == 'all' else -(-points // SOME)
        for number in range(0, points, apart):
            for finish in (self.resume, self.roll_back):
                self.restore(before)
                with self.world.mortal(number):
                    self.assertRaises(worlds.Killed, action)
                self.finish(finish)
                self.serves(*self.world.serving())
                self.assertIn(*self.world.serving(), allowed)

    def save(self) -> dict[str, worlds.Running]:
        """Keep how everything is now."""
        saved = self.root / 'saved'
        for name in CHANGING:
            shutil.copytree(self.root / name, saved / name, symlinks=True)
        (saved / 'current').symlink_to(os.readlink(
            self.root / 'opt/current'))
        shutil.copy2(self.root / STANDING, saved)
        return copy.deepcopy(self.world.running)

    def restore(self, running: dict[str, worlds.Running]) -> None:
        for name in CHANGING:
            shutil.rmtree(self.root / name)
            shutil.copytree(self.root / 'saved' / name, self.root / name,
                            symlinks=True)
        current = self.root / 'opt/current'
        current.unlink()
        current.symlink_to(os.readlink(self.root / 'saved/current'))
        shutil.copy2(self.root / 'saved' / standing.NAME,
                     self.root / STANDING)
        self.world.running = copy.deepcopy(running)

    def finish(self, how: Callable[[], object]) -> None:
        with self.world.mortal(None):
            try:
                how()
            except exceptions.RefusedRelease as error:
                # It died before it had begun, or when it had ended.
                self.assertIn('no release to go back to', str(error))

    def test_upgrade(self) -> None:
        self.die_everywhere(lambda: self.begin(NEW))

    def test_warm_rollback(self) -> None:
        self.begin(NEW, until=Step.SOAK)
        # Who dies before the first line has begun nothing: it may go on.
        self.die_everywhere(self.roll_back)

    def test_cold_rollback(self) -> None:
        self.begin(NEW)
        self.die_everywhere(self.roll_back)
