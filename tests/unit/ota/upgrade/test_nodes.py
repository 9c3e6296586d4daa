"""Two nodes with one database: who is upgraded when, and who contracts it.

The instances are those of a world without time, the rest is real: the lock
(tooz with files, held by a process), what the nodes ask each other by HTTP,
and the hooks of this package with a ``glance-manage`` that remembers what it
was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
import contextlib
import http.server
import json
from pathlib import Path
import shlex
import sys
import threading
import time
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image.ota.hooks import registry
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import standing
from easystack_image.ota.upgrade import beginning
from easystack_image.ota.upgrade import canary
from easystack_image.ota.upgrade import machine
from easystack_image.ota.upgrade import node_lock
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import returning
from easystack_image.ota.upgrade import watch
from easystack_image.ota.upgrade import work as works
from tests.unit.ota import base
from tests.unit.ota.upgrade import world as worlds

#: The last one needs nothing of the database.
OLD, NEW, NEXT = '1.0.0', '2.0.0', '3.0.0'
#: Lists some classes of this package, and runs them, and holds locks.
_PYTHON = """\
#!/bin/sh
case "$2" in
-c) echo {hooks};;
*) exec {python} "$@";;
esac
"""
#: Of a new release: what is in the database is in a file.
_MANAGE = """\
#!/bin/sh
for last; do :; done
found=$(cat {database}) || exit 1
if [ "$last" != check ]; then
    echo {node} "$last" >> {log}
    [ "$found" = contract ] || echo "$last" > {database}
    exit 0
fi
case "$found" in
contract) exit 0;;
expand) exit 5;;
*) exit 3;;
esac
"""


def _python(names: Collection[str]) -> str:
    """Return the Python of a slot with some classes of this package."""
    return _PYTHON.format(python=sys.executable, hooks=shlex.quote(
        json.dumps({'hooks': [each.listed().record()
                              for each in registry.load()
                              if each.name in names]})))


class Answers(http.server.BaseHTTPRequestHandler):
    """What a node answers, as the filter has it."""

    def do_GET(self) -> None:
        self.send_response(300)
        for name, value in self.server.node.headers():  # type: ignore
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Node:
    """A machine on which the old release serves.

    :param root: an empty directory, whose name is that of the node
    :param shared: the directory of the database, and of what was done to it
    :param hooks: the classes that the new release has
    """

    def __init__(self, root: Path, shared: Path,
                 hooks: Collection[str]) -> None:
        self.world = worlds.World(root)
        self.world.make_slot(OLD, 1, python=_python([]))
        self.world.make_slot(
            NEW, 2, ['expand', 'contract'], python=_python(hooks),
            **{'glance-manage': _MANAGE.format(
                node=root.name, database=shared / 'database',
                log=shared / 'log')})
        self.server = http.server.ThreadingHTTPServer(
            ('127.0.0.1', 0), Answers)
        self.server.node = self  # type: ignore[attr-defined]
        self.url = f'http://127.0.0.1:{self.server.server_address[1]}'
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.options: dict[str, Any] = {}

    def headers(self) -> list[tuple[str, str]]:
        """Return what an instance that serves names."""
        for version in self.world.serving():
            slot = self.world.root / 'opt/slots' / version
            return [(layout.RELEASE_HEADER, version), (
                layout.STANDING_HEADER, standing.told(
                    slot, self.world.root / 'run/i').header())]
        return []

    def begin(self, target: str, kind: Kind = Kind.UPGRADE,
              until: Step | None = None, **options: Any) -> machine.Result:
        return worlds.begin(self.world.tools(**self.options), target, kind,
                            until, **options)

    def resume(self) -> machine.Result | None:
        return machine.resume(self.world.tools(**self.options))

    def roll_back(self) -> machine.Result:
        return returning.roll_back(self.world.tools(**self.options))

    def event(self, step: Step) -> Event | None:
        return self.world.tools().journal.history()[-1].event(step)


class NodesCase(base.Case):
    """Two nodes; to each phase of the database belongs an executable."""

    hooks: Collection[str] = ()

    def setUp(self) -> None:
        super().setUp()
        for name in ('http_proxy', 'https_proxy'):
            self.useFixture(fixtures.EnvironmentVariable(name))
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.node_lock._PACE', 0.1))
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.canary.run',
            lambda *_: canary.Report('', 0, {}, 0)))
        self.database, self.log = self.root / 'database', self.root / 'log'
        self.database.write_text('')
        self.log.write_text('')
        (self.root / 'glance-api.conf').write_text('[DEFAULT]\n')
        self.first, self.last = self.nodes = [
            Node(self.root / name, self.root, self.hooks)
            for name in ('a', 'b')]
        for node in self.nodes:
            self.prepare(node)
            for phase in ('expand', 'contract') if not self.hooks else ():
                self.hook(node, f'at-{phase}', '{} --config-file=x db {}'
                          .format(node.world.root / 'opt/slots' / NEW
                                  / 'bin/glance-manage', phase))

    def prepare(self, node: Node) -> None:
        node.thread.start()
        self.addCleanup(node.server.server_close)
        self.addCleanup(node.thread.join)
        self.addCleanup(node.server.shutdown)
        node.begin(OLD, Kind.INSTALL)
        node.options = {
            'coordination_url': f'file://{self.root}/locks',
            'nodes': ' '.join(each.url for each in self.nodes),
            'node_url': node.url, 'node_timeout': 60.0,
            'config_file': str(self.root / 'glance-api.conf')}

    def phases(self) -> list[str]:
        """Return who has done what to the database."""
        return self.log.read_text().splitlines()

    def make_next(self, node: Node) -> None:
        """Make the slot of a release that follows upon the new one."""
        node.world.make_slot(NEXT, 3, python=_python([]))

    def hook(self, node: Node, point: str, script: str) -> Path:
        """Put an executable of the deployer's in place."""
        path = node.world.root / 'hooks' / point / 'ours'
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        return path


class HooksTest(NodesCase):

    hooks = ('database-check', 'database-expand', 'database-contract')

    def test_the_last_contracts(self) -> None:
        """Once, when no other node can go back; then none can."""
        self.assertIs(Outcome.COMMITTED, self.first.begin(NEW).outcome)
        self.assertEqual(['a expand'], self.phases())
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEW).outcome)
        self.assertEqual(['a expand', 'b expand', 'b contract'],
                         self.phases())
        for node in self.nodes:
            error = self.assertRaises(exceptions.RefusedRelease,
                                      node.roll_back)
            self.assertIn('contracted', str(error))
            self.assertIn('install a release that mends', str(error))
            self.assertEqual({NEW}, node.world.serving())


class ContractTest(NodesCase):

    def test_hooks_of_the_deployer(self) -> None:
        """What is done to the database is left to the last one as well."""
        for name, node in zip('ab', self.nodes, strict=True):
            for when in ('before', 'after'):
                self.hook(node, f'{when}-contract',
                          f'echo {name} {when} >> {self.log}')
        self.first.begin(NEW)
        self.assertEqual(['a expand'], self.phases())
        self.last.begin(NEW)
        self.assertEqual(['b before', 'b contract', 'b after'],
                         self.phases()[2:])

    def test_back_before_that(self) -> None:
        """Any node may, until the last one has contracted; it waits then."""
        self.first.begin(NEW)
        self.assertIs(Outcome.COMMITTED, self.first.roll_back().outcome)
        self.assertEqual({OLD}, self.first.world.serving())
        self.last.options['node_timeout'] = 0.0
        self.assertRaises(exceptions.NotOurTurn, self.last.begin, NEW)
        self.assertEqual(['a expand'], self.phases())

    def test_another_goes_back_meanwhile(self) -> None:
        """The last one has its turn, and then the first is no more ready."""
        self.first.begin(NEW)
        self.last.begin(NEW, until=Step.SOAK)
        self.first.roll_back()
        self.last.options['node_timeout'] = 0.0
        self.assertRaises(exceptions.NotOurTurn, self.last.resume)
        self.assertNotIn('b contract', self.phases())
        self.assertIs(Outcome.ROLLED_BACK, self.last.roll_back().outcome)
        self.assertEqual({OLD}, self.last.world.serving())

    def test_cold_rollback_is_cut_short(self) -> None:
        """Who may serve the old release again is not contracted under."""
        self.first.begin(NEW)
        self.last.begin(NEW, until=Step.SOAK)
        self.hook(self.first, 'before-start', 'exit 21')
        self.assertRaises(exceptions.NotNow, self.first.roll_back)
        self.assertEqual({NEW}, self.first.world.serving())
        self.last.options['node_timeout'] = 0.0
        self.assertRaises(exceptions.NotOurTurn, self.last.resume)
        self.assertNotIn('b contract', self.phases())

    def test_the_last_is_at_it(self) -> None:
        """It died while it contracted: nobody knows what is left."""
        self.first.begin(NEW)
        hook = self.hook(self.last, 'at-contract', 'exit 1')
        self.assertRaises(exceptions.HookFailed, self.last.begin, NEW)
        error = self.assertRaises(exceptions.RefusedRelease,
                                  self.first.roll_back)
        self.assertIn('contracted', str(error))
        hook.unlink()
        self.assertIs(Outcome.COMMITTED, self.last.resume().outcome)

    def test_the_commit_is_cut_short(self) -> None:
        """Others may go by it already: it is no upgrade of its own then."""
        hook = self.hook(self.first, 'at-commit', 'exit 21')
        self.assertRaises(exceptions.NotNow, self.first.begin, NEW)
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEW).outcome)
        error = self.assertRaises(exceptions.RefusedRelease,
                                  self.first.roll_back)
        self.assertIn('contracted', str(error))
        self.assertEqual({NEW}, self.first.world.serving())
        hook.unlink()
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)

    def stop_in_commit(self) -> Path:
        """Have the last node contract while the first one still commits."""
        hook = self.hook(self.first, 'at-commit', 'exit 21')
        self.assertRaises(exceptions.NotNow, self.first.begin, NEW)
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEW).outcome)
        return hook

    def test_the_commit_fails_when_others_went_by_it(self) -> None:
        """There is a way on only, and it stays open."""
        hook = self.stop_in_commit()
        hook.write_text('#!/bin/sh\nexit 1\n')
        for _ in range(2):
            self.assertRaises(exceptions.HookFailed, self.first.resume)
            self.assertEqual({NEW}, self.first.world.serving())
        self.assertRaises(exceptions.NoWayBack, self.first.roll_back)
        hook.unlink()
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)
        self.assertRaises(exceptions.RefusedRelease, self.first.roll_back)

    def test_the_updater_dies_when_the_commit_has_failed(self) -> None:
        """Whoever finds that step failed goes on, too."""
        hook = self.stop_in_commit()
        with self.first.world.tools(**self.first.options).writer() as writer:
            writer.failed(Step.COMMIT, 'a hook said no')
        hook.unlink()
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)

    def test_the_updater_dies_when_it_asks_others(self) -> None:
        """It told them that it goes back, but may not have to."""
        hook = self.stop_in_commit()

        def dying(*_: Any) -> None:
            raise worlds.Killed

        with fixtures.MonkeyPatch(
                'easystack_image.ota.upgrade.nodes.refuse_contracted', dying):
            self.assertRaises(worlds.Killed, self.first.roll_back)
        self.assertRaises(exceptions.RefusedRelease, self.first.roll_back)
        self.assertEqual({NEW}, self.first.world.serving())
        hook.unlink()
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)
        self.assertEqual(NEW, standing.read(
            self.first.world.root / 'opt').settled)

    def test_superseded_when_others_went_by_it(self) -> None:
        """An operator who was refused to go back installs what mends it."""
        hook = self.stop_in_commit()
        self.assertRaises(exceptions.RefusedRelease, self.first.roll_back)
        # Others may go by it as before.
        self.assertEqual(NEW, standing.read(
            self.first.world.root / 'opt').settled)
        hook.unlink()
        self.make_next(self.first)
        tools = self.first.world.tools(**self.first.options)
        release = tools.slots.get(NEXT).release
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.beginning._choose',
            lambda *_: (release, None)))
        result = beginning.begin(
            tools, beginning.Order(Kind.UPGRADE, NEXT, soak=0),
            lambda done, size: None)
        self.assertIs(Outcome.COMMITTED, result.outcome)
        self.assertEqual({NEXT}, self.first.world.serving())

    def test_a_cold_rollback_fails_in_its_commit(self) -> None:
        """To go up again is possible, whatever was contracted long ago."""
        for node in self.nodes:
            node.begin(NEW)
        self.make_next(self.first)
        self.first.begin(NEXT)
        self.hook(self.first, 'at-commit', 'exit 1')
        self.assertIs(Outcome.ROLLED_BACK, self.first.roll_back().outcome)
        self.assertEqual({NEXT}, self.first.world.serving())

    def test_back_when_the_commit_is_cut_short(self) -> None:
        self.hook(self.first, 'at-commit', 'exit 21')
        self.assertRaises(exceptions.NotNow, self.first.begin, NEW)
        self.last.begin(NEW, until=Step.SOAK)
        self.assertIs(Outcome.ROLLED_BACK, self.first.roll_back().outcome)
        self.assertEqual({OLD}, self.first.world.serving())
        self.last.options['node_timeout'] = 0.0
        self.assertRaises(exceptions.NotOurTurn, self.last.resume)
        self.assertNotIn('b contract', self.phases())

    def test_the_last_does_not_answer(self) -> None:
        self.first.begin(NEW)
        self.last.world.place(next(iter(
            self.last.world.running))).gate.unlink()
        error = self.assertRaises(exceptions.NotNow, self.first.roll_back)
        self.assertIn(self.last.url, str(error))
        self.assertIn('take it out of nodes', str(error))
        self.first.options.update(nodes=self.first.url)
        self.assertIs(Outcome.COMMITTED, self.first.roll_back().outcome)

    def test_what_the_database_says(self) -> None:
        """Whoever contracted it, and whatever nodes there were."""
        self.first.begin(NEW)
        self.first.options.update(nodes=self.first.url)
        self.database.write_text('contract')
        error = self.assertRaises(exceptions.RefusedRelease,
                                  self.first.roll_back)
        self.assertIn('contracted', str(error))
        # It is away.
        self.database.unlink()
        error = self.assertRaises(exceptions.NotNow, self.first.roll_back)
        self.assertIn('db check', str(error))
        self.assertEqual({NEW}, self.first.world.serving())


class BothTest(NodesCase):
    """One goes back and one contracts, with no lock to keep them apart."""

    def setUp(self) -> None:
        super().setUp()
        for node in self.nodes:
            node.options['coordination_url'] = ''
        self.first.begin(NEW)
        self.last.begin(NEW, until=Step.SOAK)

    @contextlib.contextmanager
    def patched(self, name: str, function: Callable[..., Any],
                ) -> Iterator[None]:
        """Have something of the module behave otherwise for a while."""
        with fixtures.MonkeyPatch(
                f'easystack_image.ota.upgrade.nodes.{name}', function):
            yield

    def test_while_one_asks_the_database(self) -> None:
        """Which takes minutes perhaps, and has been told before."""
        asks = []

        def ask(*_: Any) -> bool:
            asks.append('the database')
            # First, before anything is begun.
            if len(asks) == 2:
                self.assertRaises(exceptions.NotNow, self.last.resume)
            return False

        with self.patched('_needs_nothing', ask):
            self.assertIs(Outcome.COMMITTED, self.first.roll_back().outcome)
        self.assertEqual(2, len(asks))
        self.assertNotIn('b contract', self.phases())
        self.assertEqual({OLD}, self.first.world.serving())

    def test_while_one_is_about_to_contract(self) -> None:
        """It finds so, and may go back itself."""
        announce = nodes.contracted

        def late(work: works.Work) -> None:
            self.first.roll_back()
            announce(work)

        with self.patched('contracted', late):
            self.assertRaises(exceptions.NotNow, self.last.resume)
        self.assertNotIn('b contract', self.phases())
        self.assertEqual({OLD}, self.first.world.serving())
        self.assertIs(Outcome.ROLLED_BACK, self.last.roll_back().outcome)

    def test_one_dies_when_it_is_about_to_contract(self) -> None:
        """Others may go back when it is back itself."""
        announce = nodes.contracted

        def dying(work: works.Work) -> None:
            announce(work)
            raise worlds.Killed

        with self.patched('contracted', dying):
            self.assertRaises(worlds.Killed, self.last.resume)
        self.assertRaises(exceptions.RefusedRelease, self.first.roll_back)
        self.assertIs(Outcome.ROLLED_BACK, self.last.roll_back().outcome)
        self.assertIs(Outcome.COMMITTED, self.first.roll_back().outcome)
        self.assertEqual({OLD}, self.first.world.serving())


class JoinTest(NodesCase):
    """A second node comes to one that was upgraded alone."""

    def setUp(self) -> None:
        super().setUp()
        self.alone = {**self.first.options}
        del self.alone['nodes'], self.alone['coordination_url']
        self.joined, self.first.options = self.first.options, self.alone
        self.last.options['node_timeout'] = 0.0

    def test_settled_alone(self) -> None:
        self.first.begin(NEW)
        self.first.options = self.joined
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEW).outcome)

    def test_nobody_was_told(self) -> None:
        """By an updater of before, for instance."""
        self.first.begin(NEW)
        self.first.options = self.joined
        for again in (self.first.resume, self.order_again):
            (self.first.world.root / 'opt' / standing.NAME).unlink()
            self.assertIn('has not ended', str(self.assertRaises(
                exceptions.NotOurTurn, self.last.begin, NEW)))
            self.last.roll_back()
            self.assertIsNone(again())
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEW).outcome)

    def order_again(self) -> machine.Result | None:
        """Order what is installed already."""
        return beginning.begin(
            self.first.world.tools(**self.first.options),
            beginning.Order(Kind.UPGRADE, NEW), lambda done, size: None)

    def test_not_what_others_put_there(self) -> None:
        """What is in use is not what the journal has."""
        self.first.begin(NEW)
        (self.first.world.root / 'opt' / standing.NAME).unlink()
        slots = self.first.world.tools().slots
        slots.select(slots.get(OLD))
        self.assertIsNone(self.first.resume())
        self.assertEqual(standing.Standing(), standing.read(
            self.first.world.root / 'opt'))


class TrailingTest(NodesCase):
    """A node does not go on before those after it have followed."""

    def setUp(self) -> None:
        super().setUp()
        for node in self.nodes:
            self.make_next(node)
        self.first.begin(NEW)
        self.first.options['node_timeout'] = 0.0

    def refuse(self, action: Callable[[], Any], words: str) -> None:
        """See that the first node waits in vain, and changes nothing."""
        phases = self.phases()
        error = self.assertRaises(exceptions.NotOurTurn, action)
        self.assertIn(f'{self.last.url} would be left behind: {words}',
                      str(error))
        self.assertIsNone(self.first.event(Step.EXPAND))
        self.assertEqual(phases, self.phases())

    def go_on(self) -> machine.Result:
        return self.first.begin(NEXT)

    def test_serves_what_was_before(self) -> None:
        """It follows while the first one waits, and then that is next."""
        self.refuse(self.go_on, f'it serves {OLD}')
        self.refuse(self.first.resume, f'it serves {OLD}')
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEW).outcome)
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEXT).outcome)

    def test_may_go_back(self) -> None:
        self.last.begin(NEW, until=Step.SOAK)
        self.refuse(self.go_on, f'its upgrade to {NEW} has not ended')
        self.last.roll_back()
        self.refuse(self.first.resume, f'it serves {OLD}')
        self.last.begin(NEW)
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)

    def test_cannot_go_back(self) -> None:
        """It waits for a release that mends what it cannot end."""
        self.hook(self.last, 'at-contract', 'exit 1')
        self.assertRaises(exceptions.HookFailed, self.last.begin, NEW)
        self.assertIs(Outcome.COMMITTED, self.go_on().outcome)

    def test_is_further(self) -> None:
        """The first one has gone back, and takes what mends it."""
        self.last.begin(NEW, until=Step.SOAK)
        self.first.roll_back()
        self.assertIs(Outcome.COMMITTED, self.go_on().outcome)

    def test_says_nothing(self) -> None:
        self.last.world.place(next(iter(
            self.last.world.running))).gate.unlink()
        self.assertIs(Outcome.COMMITTED, self.go_on().outcome)

    def test_was_there_when_it_began(self) -> None:
        """Who has changed the database goes on, whatever became of others."""
        self.last.begin(NEW)
        self.first.begin(NEXT, until=Step.EXPAND)
        with fixtures.MonkeyPatch(
                'easystack_image.ota.upgrade.peers.Peer.may_be_older',
                lambda *_: 'it serves something else'):
            self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)


class TurnTest(NodesCase):

    def wait_for_turn(self) -> threading.Thread:
        """Have the last node wait for the lock, that of the first node."""
        self.ended: list[BaseException | machine.Result] = []

        def run() -> None:
            try:
                self.ended.append(self.last.begin(NEW))
            except exceptions.OtaError as error:
                self.ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def test_regression_while_another_waits(self) -> None:
        """It gets the lock only when the first one is back, and sees that."""
        self.last.options['node_timeout'] = 8.0
        threads = []

        def look(*_: object) -> None:
            threads.append(self.wait_for_turn())
            time.sleep(3)
            raise exceptions.Regression('it is slow')

        watched = fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.watch.Watch.observe', look)
        with watched:
            result = self.first.begin(NEW)
        self.assertIs(Outcome.ROLLED_BACK, result.outcome)
        self.assertEqual({OLD}, self.first.world.serving())
        threads[0].join()
        self.assertIsInstance(self.ended[0], exceptions.NotOurTurn)
        self.assertIsNone(self.last.event(Step.EXPAND))
        self.assertEqual({OLD}, self.last.world.serving())
        self.assertEqual(['a expand'], self.phases())

    def test_the_lock_is_held_until_it_is_back(self) -> None:
        self.hook(self.first, 'after-hand-over', 'exit 1')
        # Whoever gets it wrote so.
        self.hook(self.first, 'before-rollback',
                  f'{sys.executable} -c "import fcntl, glob\n'
                  f"for path in glob.glob('{self.root}/locks/*'):\n"
                  ' fcntl.lockf(open(path, str(chr(97))), 6)" && '
                  f'echo free >> {self.log}')
        self.assertIs(Outcome.ROLLED_BACK, self.first.begin(NEW).outcome)
        self.assertEqual(['a expand'], self.phases())

    def test_not_before_it_has_settled(self) -> None:
        """A node that serves the new release may still go back."""
        self.last.options['node_timeout'] = 0.0
        self.first.begin(NEW, until=Step.SOAK)
        self.assertEqual({NEW}, self.first.world.serving())
        error = self.assertRaises(exceptions.NotOurTurn, self.last.begin,
                                  NEW)
        self.assertIn(f'{self.first.url} comes first', str(error))
        self.assertIn('has not ended', str(error))
        self.first.resume()
        self.assertIs(Outcome.COMMITTED, self.last.resume().outcome)

    def test_cold_rollbacks_come_one_after_another(self) -> None:
        self.first.begin(NEW)
        self.first.options['node_timeout'] = 0.0
        done = threading.Event()
        observe = watch.Watch.observe

        def look(*given: Any) -> Any:
            error = self.assertRaises(exceptions.NotOurTurn,
                                      self.first.roll_back)
            self.assertIn('another node', str(error))
            done.set()
            return observe(*given)

        watched = fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.watch.Watch.observe', look)
        with watched:
            self.last.begin(NEW, until=Step.SOAK)
        self.assertTrue(done.is_set())
        self.assertEqual({NEW}, self.first.world.serving())
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)
        self.assertEqual({OLD}, self.first.world.serving())

    def test_rollback_while_it_waits(self) -> None:
        """Whoever waits for others hears that nobody wants it any more."""
        self.first.begin(NEW, until=Step.SOAK)
        thread = self.wait_for_turn()
        time.sleep(1)
        began = time.monotonic()
        result = self.last.roll_back()
        self.assertIs(Outcome.ABANDONED, result.outcome)
        thread.join()
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual({OLD}, self.last.world.serving())

    def lost(self, when: Callable[[], bool]) -> fixtures.MonkeyPatch:
        """Have the lock be lost at some time."""
        def check(_: object) -> None:
            if when():
                raise exceptions.NotNow('the lock of the node was lost')

        return fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.node_lock.NodeLock.check', check)

    def test_the_lock_is_lost_in_the_hand_over(self) -> None:
        """What serves is watched all the same, and is not committed."""
        with self.lost(lambda: self.first.event(Step.HAND_OVER)
                       is Event.DONE):
            self.assertRaises(exceptions.NotNow, self.first.begin, NEW)
        self.assertIs(Event.DONE, self.first.event(Step.SOAK))
        self.assertIsNone(self.first.event(Step.CONTRACT))
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)

    def test_the_soak_does_not_wait_for_the_lock(self) -> None:
        self.first.begin(NEW, until=Step.HAND_OVER)
        self.first.options['node_timeout'] = 0.0
        settings = self.last.world.tools(**self.last.options).settings
        with node_lock.NodeLock(settings, Path(sys.prefix)):
            self.assertRaises(exceptions.NotOurTurn, self.first.resume)
        self.assertIs(Event.DONE, self.first.event(Step.SOAK))
        self.assertIsNone(self.first.event(Step.CONTRACT))
        self.assertIs(Outcome.COMMITTED, self.first.resume().outcome)

    def test_the_lock_is_lost_aside(self) -> None:
        """The new release does not serve then, and the sign is gone."""
        self.first.options['aside'] = 0.1
        instances = self.first.world.root / 'run/i'
        with self.lost(lambda: aside.is_aside(instances)):
            self.assertRaises(exceptions.NotNow, self.first.begin, NEW)
        self.assertEqual({OLD}, self.first.world.serving())
        self.assertFalse(aside.is_aside(instances))

    def test_aside_one_at_a_time(self) -> None:
        """A node that died while it stood aside has to be back first."""
        for node in self.nodes:
            node.options['aside'] = 0.1
        instances = self.first.world.root / 'run/i'
        self.first.begin(NEW)
        aside.step_aside(instances, 3)
        seen = []
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.serving.aside.step_aside',
            lambda *_: seen.append(aside.is_aside(instances))))
        self.assertIs(Outcome.COMMITTED, self.last.begin(NEW).outcome)
        self.assertEqual([False], seen)
