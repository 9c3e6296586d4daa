"""``fsck`` and ``location``: checking everything, and finding it again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import time

from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.blockstore import address
from easystack_image.blockstore.local import engine as local_engine
from easystack_image.blockstore.local import fsck as fsck_module
from easystack_image.blockstore.local import orphans
from easystack_image.blockstore.local import problems
from easystack_image.blockstore.local import references
from easystack_image.blockstore.local import wording
from easystack_image.blockstore.local import work
from easystack_image.cmd import base
from easystack_image.cmd import copies
from easystack_image.cmd import records

_HOUR = 3600.0
#: Hours after which data without a record is an orphan.
_OLD = 24.0
_COLUMNS = ('where', 'severity', 'kind', 'reason', 'advice', 'device',
            'image', 'generation', 'result')
Kind = problems.Kind
Severity = problems.Severity


class Fsck(base.LongCommand):
    """Check everything on the devices of the store.

    Devices, their directories, and the manifest, size and number of all
    copies; with --verify, all of every copy is read. With Glance's database,
    what is stored is compared with what it says: orphans are data that no
    image refers to. Nothing is repaired. Glance may go on serving.

    Exit code 3: there are problems of severity "error" or "warning". Those
    of severity "note" go by themselves.
    """

    BRIEF = (('where', 'severity', 'kind'),)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--verify', action='store_true',
                            help='Read all of every copy.')
        parser.add_argument(
            '--not-verified-for', type=base.at_least_0, metavar='HOURS',
            help='With --verify, pass over images whose copies were all read '
                 'and found good within so many hours: to go on after an '
                 'interruption.')
        source = parser.add_mutually_exclusive_group()
        source.add_argument(
            '--database', metavar='URL',
            help="Compare with Glance's database; the URL is as in "
                 '"[database] connection". Other users of this machine may '
                 'see it; --with-database keeps the password to yourself.')
        source.add_argument(
            '--with-database', action='store_true',
            help="Compare with Glance's database, at the URL that Glance's "
                 'configuration has.')
        parser.add_argument(
            '--older-than', type=base.at_least_0, metavar='HOURS',
            help='Data is an orphan only if it was written so many hours ago '
                 '(default 24): a record follows its data.')
        parser.add_argument('--remove-orphans', action='store_true',
                            help='Delete the orphans that are found.')
        parser.add_argument('--dry-run', action='store_true',
                            help='With --remove-orphans: delete nothing; '
                                 'list what would be deleted.')
        parser.add_argument(
            '--force', metavar='STORE', default='',
            help='Delete orphans although they are more than ten, or more '
                 'than a tenth of the images (and more than two), or the '
                 'database has no image of this store; repeat the name of '
                 'the store.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Check, and list what is found."""
        self._check(parsed_args)
        engine = self.check_local(self.make_engine())
        found: list[problems.Problem] = []
        results: dict[problems.Problem, str] = {}
        with self._records(parsed_args) as rows, \
                self.job(parsed_args, 'check') as job:
            checker = engine.checker()
            try:
                for problem in checker.check(
                        job, _since(parsed_args),
                        references.Comparison(rows, _grace(parsed_args))
                        if rows else None):
                    found.append(problem)
                if rows and parsed_args.remove_orphans:
                    orphaned = [each for each in found
                                if each.kind is Kind.ORPHAN]
                    self._remove(parsed_args, engine, rows, results,
                                 orphaned, checker.images, job)
            except exceptions.Interrupted:
                self._tell_stopped(parsed_args)
        self._tell(parsed_args, checker, found)
        if not self.exit_code and any(
                each.severity is not Severity.NOTE
                and results.get(each) != 'deleted' for each in found):
            self.exit_code = base.NOT_GOOD
        if results:
            self.BRIEF = (('where', 'kind', 'result'),)
        return _COLUMNS, [
            (each.image or each.device or 'store', each.severity.value,
             each.kind.label, _reason(each), each.advice, each.device,
             each.image, each.generation, results.get(each, ''))
            for each in found]

    def _tell_stopped(self, parsed_args: argparse.Namespace) -> None:
        """Say that it was stopped, and how to go on."""
        base.LOG.warning(
            'Stopped; these are the problems found so far. Run the same '
            'command again to check the rest%s.',
            ', with --not-verified-for to pass over what was read'
            if parsed_args.verify else '')
        self.exit_code = base.STOPPED

    def _tell(self, parsed_args: argparse.Namespace,
              checker: fsck_module.Checker,
              found: Sequence[problems.Problem]) -> None:
        """Say how much was looked at, and how much was found."""
        notes = sum(each.severity is Severity.NOTE for each in found)
        count = wording.count
        self.say(f'Checked {count(checker.images, "image")}'
                 + (', and read '
                    + count(checker.verified, 'good copy', 'good copies')
                    if parsed_args.verify else '')
                 + f'; found {count(len(found) - notes, "problem")}'
                 + (f', and {count(notes, "note")}' if notes else '') + '.')

    def _check(self, parsed_args: argparse.Namespace) -> None:
        """Refuse options that would have no effect."""
        database = parsed_args.database or parsed_args.with_database
        if parsed_args.remove_orphans and not database:
            raise base.WrongUse(
                '--remove-orphans needs --database or --with-database, to '
                'tell which images are orphans')
        if parsed_args.older_than is not None and not database:
            raise base.WrongUse(
                '--older-than is about orphans: it needs --database or '
                '--with-database')
        for name in ('dry_run', 'force'):
            if getattr(parsed_args, name) and not parsed_args.remove_orphans:
                raise base.WrongUse(
                    f'--{name.replace("_", "-")} needs --remove-orphans: '
                    'without it, nothing is deleted')
        if parsed_args.not_verified_for is not None and (
                not parsed_args.verify):
            raise base.WrongUse(
                '--not-verified-for needs --verify: without it, no copy is '
                'read')
        name = self.store_app.store_options['store_name']
        if parsed_args.force not in ('', name):
            raise base.WrongUse(
                f'--force must repeat the name of the store, {name}, to show '
                f'that it is meant; it names {parsed_args.force}')

    @contextlib.contextmanager
    def _records(self, parsed_args: argparse.Namespace,
                 ) -> Iterator[records.Records | None]:
        """Open Glance's database, if it is to be compared with."""
        url = parsed_args.database
        # Reads the configuration.
        name = self.store_app.store_options['store_name']
        if parsed_args.with_database:
            url = _configured('connection', 'database')
            if not url:
                raise exceptions.ConfigurationError(
                    'the configuration has no "[database] connection": name '
                    'the file that has it with --config-file')
        if not url:
            yield None
            return
        opened = records.Records(url, name,
                                 _configured('metadata_encryption_key'))
        with contextlib.closing(opened):
            yield opened

    def _remove(self, parsed_args: argparse.Namespace,
                engine: local_engine.LocalEngine, rows: records.Records,
                results: dict[problems.Problem, str],
                todo: Sequence[problems.Problem], images: int,
                job: work.Job) -> None:
        """Delete orphans, and note the results."""
        if not todo:
            return
        # Refuses devices that do not belong together.
        engine.start()
        if not parsed_args.force:
            orphans.refuse(rows, engine.store_id, len(todo), images)
        if parsed_args.dry_run:
            results |= dict.fromkeys(todo, 'would be deleted')
            return
        results |= dict.fromkeys(todo, 'not deleted')
        job.progress.begin(len(todo), 0)
        try:
            for problem, reason in orphans.remove(todo, rows, engine.delete,
                                                  job):
                results[problem] = reason or 'deleted'
                job.progress.advance(1, 0)
        except exceptions.RecordsError as error:
            # What was deleted before is told all the same.
            base.LOG.error('%s', error)
            self.exit_code = base.FAILED


def _since(parsed_args: argparse.Namespace) -> float | None:
    """Return since when a copy must have been read, None for any time."""
    if not parsed_args.verify:
        return None
    return time.time() - float(parsed_args.not_verified_for or 0) * _HOUR


def _grace(parsed_args: argparse.Namespace) -> float:
    """Return for how many seconds data may be without a record."""
    hours = parsed_args.older_than
    return float(_OLD if hours is None else hours) * _HOUR


def _reason(problem: problems.Problem) -> str:
    """Return what is wrong, and on which device, if it is about an image."""
    return (f'{problem.device}: {problem.message}'
            if problem.device and problem.image else problem.message)


def _configured(name: str, group: str | None = None) -> str:
    """Return an option of Glance's, which Glance registers by itself."""
    conf = cfg.CONF
    conf.register_opt(cfg.StrOpt(name, secret=True), group=group)
    return str((conf[group][name] if group else conf[name]) or '')


class Location(base.ListCommand):
    """Show the URI under which Glance finds the data of an image.

    For a record whose location was lost: the documentation tells how to
    attach the data to it again.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the image."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        copies.add_image(parser, 'The id under which the data is stored.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Look it up, with what a record says of its data."""
        engine = self.local()
        info = engine.info(parsed_args.image)
        place = address.Address(engine.store_id, info.image_id,
                                info.generation)
        fields = {**dataclasses.asdict(info), 'uri': place.uri}
        names = ('uri', 'size', 'md5', 'algorithm', 'multihash')
        return names, [tuple(fields[name] for name in names)]


COMMANDS = {
    'fsck': Fsck,
    'location': Location,
}
