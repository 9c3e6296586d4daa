"""What the commands take, as reStructuredText, from their own parsers.

So a page cannot tell of an option that is gone, or miss a new one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import re


def text(program: str) -> list[str]:
    """Return the options and commands of a program, as lines."""
    return [*_options(parser(program), 'Options'),
            *(line for name, each in commands(program)
              for line in _command(name, each))]


def parser(program: str) -> argparse.ArgumentParser:
    """Return what reads the command line of a program."""
    if program == 'easystack-image-manage':
        from easystack_image.cmd import app

        made: argparse.ArgumentParser = app.ManageApp().parser
        return made
    from easystack_image.cmd.ota import main

    return main.make_parser()


def commands(program: str) -> list[tuple[str, argparse.ArgumentParser]]:
    """Return all commands of a program, by their names, with their parsers."""
    if program != 'easystack-image-manage':
        return list(_subcommands('', parser(program)))
    from easystack_image.cmd import app

    made = app.ManageApp()
    return [(name, each(made, None, cmd_name=name).get_parser(name))
            for name, each in sorted(app.COMMANDS.items())]


def _subcommands(above: str, found: argparse.ArgumentParser,
                 ) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in sorted(action.choices.items()):
                whole = f'{above} {name}'.strip()
                inner = list(_subcommands(whole, each))
                yield from inner or [(whole, each)]


def _command(name: str, found: argparse.ArgumentParser) -> Iterator[str]:
    yield from _title(name)
    usage = ' '.join(_usage(found))
    yield from (f'``{name}{" " + usage if usage else ""}``', '')
    yield from (*_paragraph(found.description or found.prog), '')
    yield from _items(found)


def _options(found: argparse.ArgumentParser, title: str) -> Iterator[str]:
    yield from _title(title)
    yield from _items(found)


def _title(text: str) -> tuple[str, str, str]:
    return text, '-' * len(text), ''


def actions(found: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield what a parser takes, but for "--help" and commands."""
    for action in found._actions:
        if action.help is not argparse.SUPPRESS and not isinstance(
                action, argparse._SubParsersAction | argparse._HelpAction):
            yield action


def _usage(found: argparse.ArgumentParser) -> Iterator[str]:
    for action in actions(found):
        if action.option_strings:
            value = _value(action)
            words = action.option_strings[-1] + (f' {value}' if value else '')
            yield words if action.required else f'[{words}]'
        else:
            name = _value(action)
            yield {'?': f'[{name}]', '*': f'[{name} ...]',
                   '+': f'{name} ...'}.get(str(action.nargs), name)


def _value(action: argparse.Action) -> str:
    """Return how the value of an option is called, or ''."""
    if action.nargs == 0:
        return ''
    if action.metavar:
        return (action.metavar if isinstance(action.metavar, str)
                else ' '.join(action.metavar))
    if action.choices:
        return '{' + ','.join(map(str, action.choices)) + '}'
    return action.dest.upper()


def _items(found: argparse.ArgumentParser) -> Iterator[str]:
    for action in actions(found):
        value = _value(action)
        after = f' {value}' if value and action.option_strings else ''
        yield ', '.join(f'``{name}{after}``'
                        for name in action.option_strings or [value])
        help = (action.help or '').replace('%%', '%').replace(
            '%(default)s', str(action.default)).replace('%(prog)s', 'it')
        yield from (f'    {line}' for line in _paragraph(help or '...'))
    yield ''


def _paragraph(text: str) -> list[str]:
    """Return text for people as one that has no markup."""
    plain = re.sub(r'([\\*`_|])', r'\\\1', ' '.join(text.split()))
    return [plain]
