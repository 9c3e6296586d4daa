"""``easystack-image-ota release``: the side that makes releases."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
import datetime
from pathlib import Path
import re
import tempfile

from easystack_image import exceptions
from easystack_image.cmd.ota import output
from easystack_image.ota import rehearsal
from easystack_image.ota.release import build
from easystack_image.ota.release import ceremony
from easystack_image.ota.release import channels
from easystack_image.ota.release import index
from easystack_image.ota.release import keys
from easystack_image.ota.release import publish
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release import review

Function = Callable[[argparse.Namespace], int]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser],
        ) -> None:
    """Add the commands."""
    release = commands.add_parser(
        'release', help='Make, sign and publish releases.')
    which = release.add_subparsers(required=True, metavar='COMMAND')

    for name, (function, help, arguments) in _COMMANDS.items():
        parser = which.add_parser(name, help=help, description=help)
        parser.set_defaults(release=_alone(function)
                            if name in _CHANGING else function)
        for each in arguments:
            _ARGUMENTS[each](parser)


def _alone(function: Function) -> Function:
    """Return what does the same while nobody else changes the folder."""
    def run(arguments: argparse.Namespace) -> int:
        with _repository(arguments).locked():
            return function(arguments)
    return run


def _path(name: str, help: str) -> Callable[
        [argparse.ArgumentParser], object]:
    return lambda parser: parser.add_argument(
        name, type=Path, metavar=name.upper(), help=help)


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], object]] = {
    'path': _path('path', 'The new private key; only you may read it.'),
    'repository': _path('repository', 'The folder of the repository.'),
    # The default is left to the option of the same name before the command.
    'trusted': lambda parser: parser.add_argument(
        '--trusted-root', default=argparse.SUPPRESS, metavar='FILE',
        help='The first root.json of the repository, got by a way that can '
             'be trusted: what is published must follow from it (default: '
             f'{repositories.TRUSTED} in the folder; without that, the first '
             'one that is published).'),
    'folder': _path('folder', 'With release.toml, requirements.lock, wheels '
                              'and config.'),
    'archive': _path('archive', 'What "release build" made.'),
    'output': lambda parser: parser.add_argument(
        '--output', type=Path, default=Path(), metavar='DIRECTORY',
        help='Where to put the archive (default: here).'),
    'role': lambda parser: parser.add_argument(
        '--role', action='append', required=True, type=_role,
        metavar='ROLE=N:KEY.pub,...', help='Have a role signed by N of these '
        f'keys; once for each role: {", ".join(repositories.ROLES)}.'),
    'days': lambda parser: parser.add_argument(
        '--days', action='append', default=[], type=_days,
        metavar='ROLE=DAYS', help='For how long the signatures of a role '
        'hold (default: ' + ', '.join(
            f'{role}={days}' for role, days
            in repositories.EXPIRY.items()) + ').'),
    'channel': lambda parser: parser.add_argument(
        '--channel', choices=index.CHANNELS, required=True),
    'numbers': lambda parser: parser.add_argument(
        'numbers', type=int, nargs='+', metavar='NUMBER'),
    'number': lambda parser: parser.add_argument(
        'number', type=int, metavar='NUMBER'),
    'reason': lambda parser: parser.add_argument(
        '--reason', required=True, help='Is told to operators.'),
    'force': lambda parser: parser.add_argument(
        '--force', action='store_true',
        help='Do it although no release has the number, or none is left; it '
             'cannot be undone.'),
    'accept': lambda parser: parser.add_argument(
        '--accept-clock', action='store_true',
        help='The clock is right, although the last index was made later.'),
    'roles': lambda parser: parser.add_argument(
        'roles', nargs='+', choices=repositories.OFFLINE, metavar='ROLE'),
    'key': lambda parser: parser.add_argument(
        '--key', type=Path, action='append', required=True, metavar='PATH',
        help='A private key; may be given again.'),
    'consent': lambda parser: _add_consent(
        parser.add_mutually_exclusive_group()),
    'renew': lambda parser: parser.add_argument(
        '--renew', action='store_true',
        help='Only have snapshot and timestamp hold for longer, and leave '
             'drafts alone: for a timer.'),
    'warn': lambda parser: parser.add_argument(
        '--warn-days', type=int, default=7, metavar='DAYS',
        help='Exit with 3 if something expires within so many days, or '
             'has less than a quarter of its time left, if that is less '
             '(default 7).'),
    'format': output.add_format,
    'keep': lambda parser: parser.add_argument(
        '--keep', type=Path, metavar='DIRECTORY',
        help='An empty directory to rehearse in, which stays.'),
}


def _add_consent(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument(
        '--expect', action='append', default=[], type=_expected,
        metavar='ROLE=SHA256', help='Sign this draft, which "release review" '
        'has shown, and no other; may be given again. Without it, somebody '
        'at a terminal is asked.')
    group.add_argument(
        '--yes', action='store_true',
        help='Sign whatever is there, and ask nobody: for scripts.')


def _expected(text: str) -> tuple[str, str]:
    role, _, fingerprint = text.partition('=')
    if role not in repositories.OFFLINE or not re.fullmatch(
            '[0-9a-f]{64}', fingerprint):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not ROLE=SHA256, as "release review" prints it')
    return role, fingerprint


def _role(text: str) -> tuple[str, int, list[Path]]:
    role, _, rest = text.partition('=')
    number, _, paths = rest.partition(':')
    if role not in repositories.ROLES or not number.isdigit() or not paths:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not ROLE=N:KEY.pub,... with one of the roles '
            + ', '.join(repositories.ROLES))
    return role, int(number), [Path(path) for path in paths.split(',')]


def _days(text: str) -> tuple[str, int]:
    role, _, days = text.partition('=')
    if role not in repositories.ROLES or not days.isdigit() or not int(days):
        raise argparse.ArgumentTypeError(f'{text!r} is not ROLE=DAYS')
    return role, int(days)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _repository(arguments: argparse.Namespace) -> repositories.Repository:
    root = arguments.trusted_root
    return repositories.Repository(arguments.repository,
                                   None if root is None else Path(root))


def _check_clock(arguments: argparse.Namespace) -> None:
    if not arguments.accept_clock:
        channels.check_clock(_repository(arguments), arguments.channel,
                             _now())


def _holders(roles: Iterable[tuple[str, int, list[Path]]],
             ) -> dict[str, ceremony.Holders]:
    return {role: ceremony.Holders(number, [
        keys.load_public(path) for path in paths])
        for role, number, paths in roles}


def run_key(arguments: argparse.Namespace) -> int:
    """Make a key."""
    key = keys.create(arguments.path)
    output.say(f'key {key.keyid}: {arguments.path} is secret, '
               f'{arguments.path}{keys.PUBLIC} is not')
    return 0


def run_init(arguments: argparse.Namespace) -> int:
    """Make a repository."""
    ceremony.initialise(_repository(arguments), _holders(arguments.role),
                        dict(arguments.days), _now())
    return _tell_drafts(arguments)


def run_build(arguments: argparse.Namespace) -> int:
    """Build an archive."""
    path = build.build(arguments.folder, arguments.output)
    output.say(f'built {path}')
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """Offer a release."""
    _check_clock(arguments)
    channels.add(_repository(arguments), arguments.channel,
                 arguments.archive, _now())
    return _tell_drafts(arguments)


def run_revoke(arguments: argparse.Namespace) -> int:
    """Revoke releases."""
    _check_clock(arguments)
    for channel in channels.revoke(
            _repository(arguments), arguments.channel, arguments.numbers,
            arguments.reason, _now(), arguments.force):
        output.say(f'{channel} still offers what was revoked in '
                   f'{arguments.channel}: revoke it there, too')
    return _tell_drafts(arguments)


def run_floor(arguments: argparse.Namespace) -> int:
    """Raise the floor of a channel."""
    _check_clock(arguments)
    channels.raise_floor(_repository(arguments), arguments.channel,
                         arguments.number, _now(), arguments.force)
    return _tell_drafts(arguments)


def run_rotate(arguments: argparse.Namespace) -> int:
    """Give roles other keys."""
    ceremony.rotate(_repository(arguments), _holders(arguments.role), _now())
    return _tell_drafts(arguments)


def run_renew(arguments: argparse.Namespace) -> int:
    """Have roles signed once more."""
    ceremony.renew(_repository(arguments), arguments.roles, _now())
    return _tell_drafts(arguments)


def run_review(arguments: argparse.Namespace) -> int:
    """Say what drafts change."""
    _review(_repository(arguments))
    return 0


def _review(repository: repositories.Repository) -> dict[str, str]:
    """Say what drafts change; return the fingerprints of just these."""
    if repository.trusted is None and repository.published(
            repositories.ROOT) is not None:
        output.say('no root to be trusted was given: that what is published '
                   'is genuine is only what it says itself; --trusted-root '
                   'makes sure')
    found = {}
    for role in repository.drafts():
        draft = repository.latest(role)
        for change in review.changes(repository, role, draft):
            output.say(f'{role} {change}')
        found[role] = repositories.fingerprint(draft)
    for role, fingerprint in found.items():
        output.say(f'to sign just this draft of {role}: '
                   f'--expect {role}={fingerprint}')
    return found


def run_sign(arguments: argparse.Namespace) -> int:
    """Say what drafts change, and sign just that, if somebody agrees."""
    repository = _repository(arguments)
    signers = [keys.load(path) for path in arguments.key]
    with repository.locked():
        reviewed = _review(repository)
    # Nobody else has to wait for the answer.
    expected = _agreed(arguments, reviewed)
    with repository.locked():
        for role, keyid in publish.sign(repository, signers, expected):
            output.say(f'signed {role} with key {keyid}')
        return _tell_drafts(arguments)


def _agreed(arguments: argparse.Namespace, reviewed: dict[str, str],
            ) -> dict[str, str]:
    """Return the fingerprints of the drafts that may be signed.

    :raises easystack_image.exceptions.NotSigned: if nobody says so
    """
    if arguments.expect:
        return dict(arguments.expect)
    if not reviewed or arguments.yes:
        return reviewed
    if not output.can_ask():
        raise exceptions.NotSigned(
            'nothing was signed: there is no terminal to ask at. Give '
            '--expect ROLE=SHA256, as "release review" prints it, or --yes')
    if not output.ask('Is this what you want to sign?'):
        raise exceptions.NotSigned('nothing was signed')
    return reviewed


def _tell_drafts(arguments: argparse.Namespace) -> int:
    for state in publish.states(_repository(arguments)):
        if state.draft:
            output.say(f'{state.role} {state.version}: {state.signed} of '
                       f'{state.threshold} keys have signed it')
    return 0


def run_publish(arguments: argparse.Namespace) -> int:
    """Publish what was signed."""
    act = publish.renew if arguments.renew else publish.publish
    version = act(_repository(arguments),
                  [keys.load(path) for path in arguments.key], _now())
    output.say(f'published, as version {version}')
    return 0


def run_status(arguments: argparse.Namespace) -> int:
    """Show who signed what, and how long it holds."""
    states = list(publish.states(_repository(arguments)))
    if not states:
        raise exceptions.InvalidRelease(
            f'{arguments.repository} is no repository: "release init" makes '
            'one')
    output.table(arguments, ('role', 'version', 'state', 'signed',
                             'threshold', 'expires', 'days'), [
        (state.role, state.version,
         'draft' if state.draft else 'published', state.signed,
         state.threshold, state.expires.strftime('%Y-%m-%dT%H:%M:%SZ'),
         (state.expires - _now()).days) for state in states])
    margin = datetime.timedelta(days=arguments.warn_days)
    soon = [state.role for state in states
            if state.ends_soon(_now(), margin)]
    return output.attention(
        'to be signed again soon: ' + ', '.join(soon) if soon else '')


def run_rehearse(arguments: argparse.Namespace) -> int:
    """Rehearse it all."""
    with tempfile.TemporaryDirectory() as directory:
        place = (arguments.keep or Path(directory)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise exceptions.InvalidRelease(f'{place} is not empty')
        for line in rehearsal.Rehearsal(place).run():
            output.say(line)
    return 0


#: What each subcommand calls, says, and takes.
_COMMANDS: dict[str, tuple[Function, str, tuple[str, ...]]] = {
    'key': (run_key, 'Make a key: PATH, and PATH.pub beside it.', ('path',)),
    'init': (run_init, 'Make a repository, to be signed.',
             ('repository', 'role', 'days')),
    'build': (run_build, 'Build the archive of a release.',
              ('folder', 'output')),
    'add': (run_add, 'Offer a release in a channel, to be signed.',
            ('repository', 'trusted', 'archive', 'channel', 'accept')),
    'revoke': (run_revoke, 'Have nobody install releases any more, to be '
                           'signed.',
               ('repository', 'trusted', 'numbers', 'channel', 'reason',
                'force', 'accept')),
    'floor': (run_floor, 'Have nobody install releases below a number any '
                         'more, to be signed.',
              ('repository', 'trusted', 'number', 'channel', 'force',
               'accept')),
    'rotate': (run_rotate, 'Give roles other keys, to be signed.',
               ('repository', 'trusted', 'role')),
    'renew': (run_renew, 'Sign roles once more, to hold for longer.',
              ('repository', 'trusted', 'roles')),
    'review': (run_review, 'Say what is to be signed.',
               ('repository', 'trusted')),
    'sign': (run_sign, 'Sign all that is to be signed and a key may.',
             ('repository', 'trusted', 'key', 'consent')),
    'publish': (run_publish, 'Publish what was signed; with nothing to '
                             'publish, have snapshot and timestamp hold for '
                             'longer.',
                ('repository', 'trusted', 'key', 'renew')),
    'status': (run_status, 'Show who signed what, and how long it holds.',
               ('repository', 'trusted', 'warn', 'format')),
    'rehearse': (run_rehearse, 'Rehearse it all, with keys and a repository '
                               'that are thrown away.', ('keep',)),
}
#: Those that change a repository, each at a time; "sign" sees to it itself.
_CHANGING = ('init', 'add', 'revoke', 'floor', 'rotate', 'renew', 'publish')
