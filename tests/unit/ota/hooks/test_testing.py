"""The helper that tells whether a hook is idempotent."""

from __future__ import annotations

import time

from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.hooks import testing
from tests.unit.ota.hooks import base


class Good(hooks_base.Hook):
    """Writes ten files, whatever there is."""

    name = 'good'
    points = ('at-start',)

    def run(self, context: hooks_base.Context) -> str | None:
        from pathlib import Path
        for number in range(10):
            Path(context.state_directory, str(number)).write_text('x')
            time.sleep(0.01)
        return None


class Fickle(Good):
    """Adds to a file each time."""

    def run(self, context: hooks_base.Context) -> str | None:
        with open(f'{context.state_directory}/0', 'a') as file:
            file.write('x')
        return None


class Once(Good):
    """Fails where it was before."""

    def run(self, context: hooks_base.Context) -> str | None:
        open(f'{context.state_directory}/0', 'x').close()
        return None


class Hurried(Good):
    """Believes that what is begun is done."""

    def run(self, context: hooks_base.Context) -> str | None:
        from pathlib import Path
        if Path(context.state_directory, '0').exists():
            return None
        return super().run(context)


class IdempotentTest(base.HookCase):

    def setUp(self) -> None:
        super().setUp()
        self.place = self.root / 'place'
        self.place.mkdir()

    def reset(self) -> None:
        for path in self.place.iterdir():
            path.unlink()

    def observe(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.place.iterdir()}

    def check(self, hook: testing.Subject) -> None:
        testing.check_idempotent(
            hook, self.context('at-start', state_directory=str(self.place)),
            reset=self.reset, observe=self.observe, kills=5)

    def refuse(self, hook: testing.Subject, *words: str) -> None:
        error = self.assertRaises(AssertionError, self.check, hook)
        for word in words:
            self.assertIn(word, str(error))

    def test_classes(self) -> None:
        self.check(Good)
        self.refuse(Fickle, 'not idempotent', 'run twice')
        self.refuse(Once, 'failed the second time')
        self.refuse(Hurried, 'it was killed after')

    def test_executables(self) -> None:
        self.check(self.executable(
            'cd $EASYSTACK_OTA_STATE_DIRECTORY; '
            'for i in 1 2 3; do echo $i > $i; sleep 0.02; done'))
        self.refuse(self.executable(
            'cd $EASYSTACK_OTA_STATE_DIRECTORY; echo >> 1'), 'run twice')
        self.refuse(self.executable(
            'cd $EASYSTACK_OTA_STATE_DIRECTORY; mkdir made && rmdir made; '
            '[ ! -e begun ] || exit 0; touch begun; sleep 0.2; touch done'),
            'it was killed after')
