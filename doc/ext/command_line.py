"""``.. command-line:: PROGRAM``: its options and commands."""

from __future__ import annotations

from typing import Any

import command_text
from docutils import nodes
from docutils import statemachine
from sphinx.util import docutils
from sphinx.util.nodes import nested_parse_with_titles


class CommandLine(docutils.SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what stands there."""
        lines = statemachine.StringList(
            command_text.text(self.arguments[0]), self.arguments[0])
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, lines, node)
        return node.children


def setup(app: Any) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive('command-line', CommandLine)
    return {'parallel_read_safe': True}
