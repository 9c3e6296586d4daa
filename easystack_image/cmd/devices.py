"""``device``: what the copies lie on."""

from __future__ import annotations

import argparse

from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore import loading
from easystack_image.blockstore.local import engine as local_engine
from easystack_image.blockstore.local import formats
from easystack_image.blockstore.local import membership
from easystack_image.blockstore.local import provision
from easystack_image.blockstore.local import roster
from easystack_image.blockstore.local import wording
from easystack_image.cmd import base
from easystack_image.cmd import columns
from easystack_image.cmd import plans

_COLUMNS = ('device', 'zone', 'state', 'total', 'free', 'copies', 'weight',
            'device_id', 'reason')
#: Where "unavailable" or a long path leaves no room, "capacity" tells the
#: total.
_BRIEF = (_COLUMNS[:6], ('device', 'zone', 'state', 'free', 'copies'))


def table(engine: engine_module.Engine) -> base.Table:
    """Return all devices of a store."""
    if isinstance(engine, local_engine.LocalEngine):
        entries = roster.take(engine.fleet)
    else:
        entries = [roster.Entry(
            each.device, '', each.zone, each.weight,
            'active' if each.available else roster.UNAVAILABLE, each.total,
            each.total - each.free, each.free, reason=each.reason)
            for each in engine.devices()]
    return _COLUMNS, [
        (each.path, columns.Name(each.zone), each.state,
         columns.Size(each.total if each.there else None),
         columns.Size(each.free if each.there else None),
         columns.Number(each.copies if each.there else None),
         each.weight, each.device_id, each.reason) for each in entries]


class _DeviceCommand(base.ListCommand):
    """A command that lists the devices afterwards."""

    BRIEF = _BRIEF


def _add_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('path', type=base.device_path,
                        help='The directory of the device.')


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'device', type=base.device_path, help='The directory of the device, '
        'or its device_id (as "device list --long" shows it).')


def _add_traits(parser: argparse.ArgumentParser, zone: str, weight: str,
                default: float | None) -> None:
    parser.add_argument('--zone', help='What fails together: a rack, a '
                                       f'controller. Default: {zone}.')
    parser.add_argument(
        '--weight', type=float, default=default,
        help='Share of images, relative to the other devices, for instance '
             f'its size in TiB (number). Default: {weight}.')


class DeviceList(_DeviceCommand):
    """List the devices of the store and the room on them.

    Those that are remembered and not in the configuration, too. Sizes are
    bytes (K, M, G, T: times 1024); of a zone that is a UUID, a table shows
    the beginning.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """List them."""
        return table(self.engine())


class DeviceFormats(base.ListCommand):
    """Show which formats of devices and copies this release knows.

    Upgrades compare that with the other release, so that each can read what
    there is, and what the other writes.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('--scan', action='store_true',
                            help='Look at all copies, and show how many have '
                                 'each format.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """List them."""
        self.check_local(self.make_engine())
        options = self.store_app.store_options
        counts = (formats.found(options['devices'], options['io_timeout'])
                  if parsed_args.scan else {})
        return ('format', 'reads', 'writes', 'found'), [
            (each.kind, columns.Versions(each.reads), each.writes,
             columns.Versions(counts.get(each.kind))) for each
            in formats.KNOWN]


class DeviceInit(_DeviceCommand):
    """Prepare directories as devices of the store.

    Without arguments, all devices in the store's configuration that are not
    prepared yet. They must be empty, and each on a disk of its own. They
    join the set that the prepared ones belong to, or form a new one.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument('path', nargs='*', type=base.device_path,
                            help='A device of the configuration.')
        _add_traits(parser, 'each device alone', '1', 1.0)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Prepare them, and list all devices."""
        options = self.store_app.store_options
        # Refuses what cannot work before anything is touched.
        self.check_local(loading.load(options))
        provision.initialise(
            options['devices'] or [], parsed_args.path, parsed_args.zone,
            parsed_args.weight, options['allow_shared_disk'],
            options['io_timeout'])
        engine = self.local()
        engine.membership.remember()
        return table(engine)


class DeviceAdd(_DeviceCommand):
    """Prepare a directory and have it join the set of devices.

    It takes new images at once; "rebalance" gives it its share of the
    others. List it in easystack_block_devices first, and restart Glance and
    the healer afterwards.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        _add_path(parser)
        _add_traits(parser, 'the device alone', '1', 1.0)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Add it, and list all devices."""
        engine = self.local(expected=parsed_args.path)
        engine.membership.add(parsed_args.path, parsed_args.zone,
                              parsed_args.weight)
        self.say(f'{parsed_args.path} belongs to the set now. Restart Glance '
                 'and the healer, if they do not know it yet; then '
                 '"rebalance" gives it its share of the images.')
        return table(engine)


class DeviceDrain(plans.MovingCommand, base.LongCommand):
    """Move all copies from a device, so that it can be removed.

    No more copies are placed on it from the moment this begins, also if it
    is interrupted; running it again goes on. While the copies move, Glance
    reads from them.
    """

    BRIEF = (*plans.MovingCommand.BRIEF, *_BRIEF)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        _add_device(parser)
        parser.add_argument('--cancel', action='store_true',
                            help='Have copies placed on it again.')
        base.add_force(parser, 'The device once more, to drain it even '
                               'though too few others remain.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Drain it, and tell what was done."""
        name = parsed_args.device
        force = bool(base.check_force(parsed_args, name))
        if force and parsed_args.cancel:
            raise base.WrongUse('--cancel needs no --force: no copy is lost '
                                'by it')
        engine = self.local()
        if parsed_args.cancel:
            self._cancel(engine, name, parsed_args.dry_run)
            return table(engine)
        if parsed_args.dry_run:
            with self.job(parsed_args, 'plan') as job:
                planned = engine.forecast.drain(name, job, force)
            return self.forecast(planned)
        path = engine.membership.drain(name, force)
        with self.job(parsed_args, 'drain') as job:
            done = engine.membership.move_away(path, job)
        left = len(engine.membership.on_device(path).images)
        self._tell(name, left)
        return plans.summary(done, left)

    def _cancel(self, engine: local_engine.LocalEngine, name: str,
                dry_run: bool) -> None:
        if dry_run:
            path = engine.membership.check_activate(name)
            self.say(f'{path} would take copies again.')
            return
        path = engine.membership.activate(name)
        self.say(f'{path} takes copies again; "rebalance" brings back those '
                 'that belong on it.')

    def _tell(self, name: str, left: int) -> None:
        if left:
            self.exit_code = base.NOT_GOOD
            base.LOG.warning(
                '%s still holds %s: run "repair", if they are bad; if '
                'the other devices are too few or have no room, add one; '
                'then run this again.', name,
                wording.count(left, 'copy', 'copies'))
        else:
            self.say(f'{name} is empty; "device remove {name}" takes it '
                     'from the set.')


class DeviceRemove(plans.MovingCommand):
    """Have a device leave the set.

    Nothing on it is deleted: only its identity file is renamed. Refused
    while there are copies on it (drain it first), and for a device that is
    away while images lack copies without it.
    """

    BRIEF = (*plans.MovingCommand.BRIEF, *_BRIEF)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        _add_device(parser)
        base.add_force(parser, 'The device once more, to give up the copies '
                               'that it has.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Remove it, and list the devices that stay."""
        name = parsed_args.device
        force = base.check_force(parsed_args, name)
        engine = self.local(expected=name)
        if parsed_args.dry_run:
            planned = engine.forecast.remove(name, force)
            self.say(f'{name} would leave the set.')
            return plans.table(planned)
        gone = engine.membership.remove(name, force)
        self.say(f'{name} left the set; '
                 + (f'{gone.instead} stays at {gone.path}.' if gone.instead
                    else f'take {_it(gone)} from easystack_block_devices and '
                         'restart Glance and the healer.')
                 + (' "repair" makes up for the copies that it had.'
                    if force else ''))
        names, rows = table(engine)
        # Of what is still in the configuration, nothing is known now.
        left = [(gone.path, ''), (gone.path, gone.identity.device_id)]
        return names, [row for row in rows if (row[0], row[7]) not in left]


def _it(device: membership.Target) -> str:
    return 'it' if device.name == device.path else device.path


class DeviceReplace(plans.MovingCommand, base.LongCommand):
    """Have a new device take the place of another.

    Copies what the old device had (or has) to the new one, from whichever
    copies are good. The old one may be gone; if it is still there, it is
    drained meanwhile, and can be removed afterwards. If this is
    interrupted, running it again goes on.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'old', type=base.device_path, help='The directory of the old '
            'device, or its device_id (as "device list --long" shows it).')
        parser.add_argument(
            'new', nargs='?', type=base.device_path,
            help='The directory of the new device, empty. Default: that of '
                 'the old one, with a new disk mounted there.')
        _add_traits(parser, 'as the old one', 'as the old one', None)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """Replace it, and tell what was done."""
        old = parsed_args.old
        traits = (parsed_args.zone, parsed_args.weight)
        engine = self.local(expected=parsed_args.new or old)
        new = parsed_args.new or engine.membership.path_of(old)
        if parsed_args.dry_run:
            with self.job(parsed_args, 'plan') as job:
                planned = engine.forecast.replace(old, new, *traits, job)
            return self.forecast(planned)
        stays = engine.membership.replace(old, new, *traits)
        with self.job(parsed_args, 'replace') as job:
            done = engine.membership.rebuild(job)
        self.say(f'{new} has taken the place of '
                 + (f'{old}; "device remove {old}" takes that one from the '
                    'set.' if stays else
                    'the device that was there.'))
        return plans.summary(done)


COMMANDS = {
    'device add': DeviceAdd,
    'device drain': DeviceDrain,
    'device formats': DeviceFormats,
    'device init': DeviceInit,
    'device list': DeviceList,
    'device remove': DeviceRemove,
    'device replace': DeviceReplace,
}
