"""The functional tests of glance_store, set up as it does for ``file``.

All of ``glance_store.tests.functional.base.BaseFunctionalTests`` run:
``test_add``, ``test_delete``, ``test_get_size`` and ``test_get``.

They make the driver the default store of a configuration without
``enabled_backends``.  A deployer cannot do that: glance_store lists its own
drivers as the only choices of ``[glance_store] default_store``, an option
that is deprecated since Rocky.  So the driver is added to the choices here.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import tempfile
from typing import Any
from unittest import mock

import fixtures
from glance_store import backend
from glance_store.tests.functional import base

from easystack_image import exceptions
from tests.unit.store import base as store_base

#: It is read, and nobody is contacted.
_CLOUDS = """\
clouds:
  nowhere:
    auth:
      auth_url: http://127.0.0.1:9/identity
      username: nobody
      password: none
      project_name: none
      user_domain_id: default
      project_domain_id: default
"""

_OPTIONS = ('stores', 'default_store', 'easystack_block_devices',
            'easystack_block_allow_shared_disk',
            'easystack_block_self_repair')


class TestEasystackBlock(base.BaseFunctionalTests):

    def __init__(self, *arguments: Any, **options: Any) -> None:
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith('OS_')}
        with tempfile.TemporaryDirectory() as directory:
            clouds = Path(directory) / 'clouds.yaml'
            clouds.write_text(_CLOUDS)
            environment |= {'OS_CLIENT_CONFIG_FILE': str(clouds),
                            'OS_TEST_GLANCE_STORE_FUNC_TEST_CLOUD':
                            'nowhere'}
            with mock.patch.dict(os.environ, environment, clear=True):
                super().__init__('easystack_block', *arguments, **options)

    def setUp(self) -> None:
        self.useFixture(fixtures.MonkeyPatch(
            'glance_store.location.SCHEME_TO_CLS_MAP', {}))
        default_store, = (option for option in backend._STORE_OPTS
                          if option.name == 'default_store')
        patch = mock.patch.dict(default_store.type.choices,
                                {'easystack_block': None})
        patch.start()
        self.addCleanup(patch.stop)
        for name in _OPTIONS:
            self.addCleanup(base.CONF.clear_override, name, 'glance_store')
        for name, value in store_base.block_options(
                store_base.shared_devices().paths).items():
            base.CONF.set_override(name, value, 'glance_store')
        super().setUp()
        self.addCleanup(store_base.close, self.store)
        self.addCleanup(self.delete_images)

    def delete_images(self) -> None:
        """Let the next test find none of the images, as on new devices."""
        for image_id in (base.UUID1, base.UUID2, base.UUID3, base.UUID4):
            with contextlib.suppress(exceptions.ImageNotFound):
                self.store.engine.delete(image_id)

    def test_it_is_our_driver(self) -> None:
        self.assertEqual('easystack_image.store.driver',
                         type(self.store).__module__)
