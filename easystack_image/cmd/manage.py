"""``easystack-image-manage``: devices and copies of a store."""

from __future__ import annotations

from collections.abc import Sequence
import signal
import sys


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``easystack-image-manage``; return its exit code.

    All else is imported here, because that takes a moment: at a Ctrl-C, the
    process just ends meanwhile.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from easystack_image.cmd import app

    made = app.ManageApp()
    signal.signal(signal.SIGINT, before)
    return made.run(list(sys.argv[1:] if argv is None else argv))


if __name__ == '__main__':
    sys.exit(main())
