"""``copies``: where the copies of images are, and how they are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.ceph import engine as ceph_engine
from easystack_image.blockstore.local import inventory
from easystack_image.cmd import base
from easystack_image.cmd import columns

_IMAGES = ('image', 'size', 'copies', 'verified')
_COLUMNS = ('device', 'zone', 'state', 'verified', 'size', 'reason', 'path')


def add_image(parser: argparse.ArgumentParser, help: str,
              optional: bool = False) -> None:
    """Add an image's id to the arguments."""
    parser.add_argument('image', help=help, nargs='?' if optional else None)


class CopiesCommand(base.ListCommand):
    """A command that lists the copies of one image."""

    BRIEF: tuple[tuple[str, ...], ...] = (_COLUMNS[:5],)

    def table(self, copies: Sequence[engine_module.Copy]) -> base.Table:
        """Return the copies; set the exit code."""
        good = sum(copy.state is engine_module.CopyState.GOOD
                   for copy in copies)
        bad = any(copy.state is engine_module.CopyState.DAMAGED
                  for copy in copies)
        if bad or good < int(self.store_app.store_options['copies']):
            self.exit_code = base.NOT_GOOD
        return _COLUMNS, [
            (copy.device, columns.Name(copy.zone), copy.state.value,
             columns.Moment(copy.verified_at), columns.Size(copy.size),
             copy.reason, copy.path) for copy in copies]


class CopiesShow(CopiesCommand):
    """Show where the copies of an image are, and how they are.

    "verified" is when all of a copy was read last and found good, or when it
    was written (UTC). The bytes of the image lie in the file "path"
    (--long).
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        add_image(parser, 'The id of the image.')
        parser.add_argument('--verify', action='store_true',
                            help='Read all of every copy. Otherwise only '
                                 'its manifest and its size are checked.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """List them."""
        return self.table(self.engine().list_copies(
            parsed_args.image, verify=parsed_args.verify))


class CopiesList(base.ListCommand):
    """List all images, and how many copies each has.

    Told by names alone, on the devices that can be asked; "copies show"
    looks closer. Copies that a repair found bad do not count, where it found
    no good one. "verified" is when the copy was verified that was not
    verified for longest (UTC).
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('--lacking', action='store_true',
                            help='Only images with fewer copies than they '
                                 'should have.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> base.Table:
        """List them."""
        engine = self.keeper()
        if isinstance(engine, ceph_engine.CephEngine):
            return self._of_ceph(engine, parsed_args.lacking)
        listed = inventory.take(engine.fleet)
        bad = engine.repairer.known_bad(listed)
        rows: list[tuple[object, ...]] = []
        for image_id, copies in sorted(listed.images.items()):
            count = len(copies) - len(bad.get(image_id, ()))
            lacks = count < engine.copies
            if lacks:
                self.exit_code = base.NOT_GOOD
            if lacks or not parsed_args.lacking:
                rows.append((
                    image_id,
                    columns.Size(max(each.size for each in copies.values())),
                    columns.Count((count, engine.copies)),
                    columns.Moment(min(each.verified_at
                                       for each in copies.values()))))
        return _IMAGES, rows

    def _of_ceph(self, engine: ceph_engine.CephEngine,
                 lacking: bool) -> base.Table:
        """List images in Ceph, each asked for; what is gone is left out."""
        rows: list[tuple[object, ...]] = []
        for image_id in sorted(engine.list_images()):
            try:
                copies = engine.list_copies(image_id)
            except exceptions.ImageNotFound:
                continue
            count = sum(copy.state is engine_module.CopyState.GOOD
                        for copy in copies)
            lacks = count < engine.copies
            if lacks:
                self.exit_code = base.NOT_GOOD
            if lacks or not lacking:
                rows.append((
                    image_id,
                    columns.Size(max(each.size for each in copies)),
                    columns.Count((count, engine.copies)),
                    columns.Moment(min(each.verified_at
                                       for each in copies))))
        return _IMAGES, rows


COMMANDS = {
    'copies list': CopiesList,
    'copies show': CopiesShow,
}
