"""Keeping copies good, and where they belong."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import dataclasses

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore import validate
from easystack_image.blockstore.ceph import engine as ceph_engine
from easystack_image.blockstore.local import capacity
from easystack_image.blockstore.local import engine as local_engine
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import roster
from easystack_image.blockstore.local import work
from easystack_image.cmd import base
from easystack_image.cmd import columns
from easystack_image.cmd import copies
from easystack_image.cmd import plans

#: Engines whose images are looked after here.
_Keeper = local_engine.LocalEngine | ceph_engine.CephEngine
_RESULTS = ('image', 'result', 'reason')


class _OneOrAll(base.LongCommand, copies.CopiesCommand):
    """A command about one image, or about all."""

    HELP = ''

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the image."""
        parser = super().get_parser(prog_name)
        copies.add_image(parser, self.HELP, optional=True)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Do it, and tell what was done."""
        if parsed_args.image is None:
            return self.all(parsed_args, self.keeper())
        engine = self.one_engine()
        image_id = validate.canonical_uuid(parsed_args.image)
        with self.job(parsed_args, self.cmd_name or '', True) as job:
            self.one(image_id, engine, job)
        return self.table(engine.list_copies(image_id))

    def one_engine(self) -> engine_module.Engine:
        """Return the engine for work on one image."""
        return self.local()

    def one(self, image_id: str, engine: engine_module.Engine,
            job: work.Job) -> None:
        """Do it to one image."""
        raise NotImplementedError

    def all(self, parsed_args: argparse.Namespace,
            engine: _Keeper) -> base.Table:
        """Do it to all images."""
        raise NotImplementedError


class Scrub(_OneOrAll):
    """Read all of every copy, and have repaired what is not good.

    Goes on with a scrub that was interrupted. Without an image, one row
    tells: how many images were read, how many copies were good, how many
    were bad, missing or out of date; how many images were repaired, how
    many have fewer good copies than they should now, and how many failed
    to be read. With the engine "ceph", one copy of each image is read; Ceph
    compares the copies with each other itself.
    """

    HELP = ('The id of an image; then its copies are listed afterwards. '
            'Default: all images.')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--restart', action='store_true',
                            help='Begin anew instead of going on.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Scrub, and tell what was done."""
        if parsed_args.restart and parsed_args.image is not None:
            raise base.WrongUse('--restart is for a scrub of all images; '
                                'that of one image always begins anew')
        return super().take_action(parsed_args)

    def one_engine(self) -> engine_module.Engine:
        """Return the engine: each can read an image back."""
        return self.engine()

    def one(self, image_id: str, engine: engine_module.Engine,
            job: work.Job) -> None:
        """Scrub one image."""
        if not isinstance(engine, _Keeper):
            engine.repair(image_id)
            return
        if isinstance(engine, ceph_engine.CephEngine):
            job.progress.begin(1, engine.info(image_id).size)
            engine.scrubber.scrub(image_id, job)
            return
        size = sum(copy.size for copy in engine.list_copies(image_id))
        job.progress.begin(1, size)
        engine.scrubber.scrub(image_id, job)

    def all(self, parsed_args: argparse.Namespace,
            engine: _Keeper) -> base.Table:
        """Scrub all images."""
        with self.job(parsed_args, 'scrub') as job:
            result = engine.scrubber.run(job, parsed_args.restart)
        if result.lacking or result.failures:
            self.exit_code = base.NOT_GOOD
        return (('images', 'good', 'bad', 'repaired', 'lacking', 'failed'),
                [(result.images, result.good, result.bad, result.repaired,
                  result.lacking, len(result.failures))])


class Repair(_OneOrAll):
    """Verify copies and replace those that are not good.

    Without an image: all images that lack copies, that have copies with a
    bad manifest or size, or that users or scrubs found damaged; they are
    listed, with what became of them. ("scrub" reads everything.)
    """

    BRIEF = (*copies.CopiesCommand.BRIEF, ('image', 'result'))
    HELP = ('The id of an image; then its copies are listed afterwards. '
            'Default: all that need it.')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--dry-run', action='store_true',
            help='Change nothing; list the images that would be repaired, '
                 'and why. The copies of one image are read for that. An '
                 'image without a good copy "would be tried": it can be '
                 'repaired only if each block is good in some copy.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Repair, or tell what would be repaired."""
        if not parsed_args.dry_run:
            return super().take_action(parsed_args)
        needs: Mapping[str, _Need] = {}
        if parsed_args.image is None:
            engine = self.keeper()
            with self.job(parsed_args, 'look') as job:
                needs = _needs_of_ceph(engine) if isinstance(
                    engine, ceph_engine.CephEngine) else _in_need(
                        engine, inventory.take(engine.fleet), job)
        else:
            image_id = validate.canonical_uuid(parsed_args.image)
            found = self.one_engine().list_copies(image_id, verify=True)
            reason = _reason(found, int(self.store_app.store_options[
                'copies']))
            if reason:
                needs = {image_id: _Need(0, reason, _none_good(found))}
        if not needs:
            self.say('No image needs repair.')
        if any(need.doubtful for need in needs.values()):
            self.exit_code = base.NOT_GOOD
        return _RESULTS, [
            (image_id, 'would be tried' if need.doubtful
             else 'would be repaired', need.reason)
            for image_id, need in needs.items()]

    def one_engine(self) -> engine_module.Engine:
        """Return the engine: each can repair an image."""
        return self.engine()

    def one(self, image_id: str, engine: engine_module.Engine,
            job: work.Job) -> None:
        """Repair one image."""
        if isinstance(engine, local_engine.LocalEngine):
            engine.repairer.repair(image_id, job=job)
        else:
            engine.repair(image_id)

    def all(self, parsed_args: argparse.Namespace,
            engine: _Keeper) -> base.Table:
        """Repair all images that need it."""
        rows: list[tuple[object, ...]] = []
        failures: Mapping[str, exceptions.DeviceError] = {}
        with self.job(parsed_args, 'look') as job:
            if isinstance(engine, ceph_engine.CephEngine):
                todo = _needs_of_ceph(engine)
            else:
                listed = inventory.take(engine.fleet)
                todo, failures = _in_need(engine, listed, job), listed.failures
        if not todo:
            self.say('No image needs repair.')
        with self.job(parsed_args, 'repair') as job:
            job.progress.begin(len(todo), sum(need.size for need in
                                              todo.values()))
            for image_id in todo:
                job.check()
                rows.append((image_id, *_repair(engine, image_id, failures,
                                                job)))
                job.progress.advance(1, 0)
        if any(result != 'repaired' for _, result, _ in rows):
            self.exit_code = base.NOT_GOOD
        return _RESULTS, rows


@dataclasses.dataclass(frozen=True, slots=True)
class _Need:
    """Why an image is to be repaired."""

    #: How many bytes have to be read.
    size: int
    reason: str
    #: Whether no copy is good, as far as is known: each block may be good in
    #: another one.
    doubtful: bool = False


def _repair(engine: _Keeper, image_id: str,
            failures: Mapping[str, exceptions.DeviceError],
            job: work.Job) -> tuple[str, str]:
    """Repair an image; return what became of it, and why.

    :param failures: devices that could not be asked for all that they have;
        a copy there does not count, as in "copies list"
    """
    try:
        if isinstance(engine, ceph_engine.CephEngine):
            engine.scrubber.scrub(image_id, job)
            return 'repaired', ''
        if engine.repairer.repair(image_id, job=job):
            good = {copy.device for copy in engine.list_copies(image_id)
                    if copy.state is engine_module.CopyState.GOOD}
            count = len(good.difference(failures))
            if count >= engine.copies:
                return 'repaired', ''
            return 'lacking', (
                f'{count} of {engine.copies} copies count, as not all '
                'devices can be listed ('
                + '; '.join(map(str, failures.values())) + ')')
        return 'lacking', ('there are not enough devices, or not all can be '
                           'used')
    except exceptions.ImageNotFound as error:
        return 'gone', str(error)
    except exceptions.BlockStoreError as error:
        return 'failed', str(error)


def _needs_of_ceph(engine: ceph_engine.CephEngine) -> Mapping[str, _Need]:
    """Return the images in Ceph that need repair: those that are noted."""
    return {image_id: _Need(0, reason, tried) for image_id, (reason, tried)
            in sorted(engine.in_need().items())}


def _in_need(engine: local_engine.LocalEngine, listed: inventory.Inventory,
             job: work.Job) -> Mapping[str, _Need]:
    """Return the images that need repair."""
    marked = {upload.image_id for upload in engine.repairer.marked()}
    job.progress.begin(len(listed.images), 0)
    todo = {}
    for image_id, found in sorted(listed.images.items()):
        job.check()
        looks = _looks(engine, image_id)
        reason = _reason(looks, 0)
        if image_id in marked:
            reason = reason or 'it was found damaged when it was read'
        elif len(found) < engine.copies:
            reason = reason or f'{len(found)} of {engine.copies} copies'
        if reason:
            todo[image_id] = _Need(
                sum(entry.size for entry in found.values()), reason,
                _none_good(looks))
        job.progress.advance(1, 0)
    return todo


def _looks(engine: local_engine.LocalEngine,
           image_id: str) -> Sequence[engine_module.Copy]:
    """Return the copies of an image; none, if it was deleted meanwhile.

    How they are is told by their names, manifests and sizes, and by what a
    repair found out.
    """
    try:
        return engine.list_copies(image_id)
    except exceptions.ImageNotFound:
        return ()


def _none_good(found: Sequence[engine_module.Copy]) -> bool:
    """Tell whether there are damaged copies, and no good one."""
    states = {copy.state for copy in found}
    return (engine_module.CopyState.DAMAGED in states
            and engine_module.CopyState.GOOD not in states)


def _reason(found: Sequence[engine_module.Copy], wanted: int) -> str:
    """Return why an image needs repair, or ''.

    :param wanted: how many good copies there should be
    """
    bad = [f'{copy.device}: {copy.reason or copy.state.value}'
           for copy in found
           if copy.state in (engine_module.CopyState.DAMAGED,
                             engine_module.CopyState.MISSING)]
    good = sum(copy.state is engine_module.CopyState.GOOD for copy in found)
    if not bad and good < wanted:
        return f'{good} of {wanted} copies'
    return '; '.join(bad)


class Rebalance(plans.MovingCommand, base.LongCommand):
    """Move copies to where they belong.

    After a device was added, or drained or away for a while. New copies are
    complete before others are removed. If it is interrupted, running it
    again goes on.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Move them, and tell what was done."""
        engine = self.local()
        if parsed_args.dry_run:
            with self.job(parsed_args, 'plan') as job:
                planned = engine.forecast.rebalance(job)
            return self.forecast(planned)
        with self.job(parsed_args, 'rebalance') as job:
            return plans.summary(engine.membership.rebuild(job))


class Capacity(base.ListCommand):
    """Show how much room is in use, and how much more fits.

    The last row is about all devices together; there, "fits" is how many
    more bytes of images can be stored, with all the copies that they should
    have, each in a zone of its own where there are enough. Draining devices
    and those that cannot be used do not count for that.
    """

    BRIEF = (('device', 'total', 'used', 'free', 'use', 'full', 'fits'),)

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Measure it."""
        engine = self.local()
        entries = [entry for entry in roster.take(engine.fleet)
                   if entry.there]
        free: dict[str, list[int]] = {}
        for entry in entries:
            if entry.state == 'active':
                free.setdefault(entry.zone, []).append(entry.free)
        limit = engine.settings.nearly_full
        rows = [_row(entry, limit, None) for entry in entries]
        whole = roster.Entry(
            'all', '', '', 0.0, '', sum(entry.total for entry in entries),
            sum(entry.used for entry in entries),
            sum(entry.free for entry in entries))
        return (('device', 'zone', 'state', 'total', 'used', 'free', 'use',
                 'full', 'fits'),
                [*rows, _row(whole, limit,
                             capacity.fits(free, engine.copies))])


def _row(entry: roster.Entry, limit: float,
         fits: int | None) -> tuple[object, ...]:
    full = ('yes' if not entry.free else
            'nearly' if entry.used_percent >= limit else 'no')
    return (entry.path, columns.Name(entry.zone), entry.state,
            *map(columns.Size, (entry.total, entry.used, entry.free)),
            columns.Percent(entry.used_percent),
            full, columns.Size(fits))


COMMANDS = {
    'capacity': Capacity,
    'rebalance': Rebalance,
    'repair': Repair,
    'scrub': Scrub,
}
