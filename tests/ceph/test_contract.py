"""What every engine must do, as far as it is about whole images."""

from __future__ import annotations

import testscenarios

from tests.ceph import lab
from tests.contract import base
from tests.contract import test_copies
from tests.contract import test_delete
from tests.contract import test_engine
from tests.contract import test_ids
from tests.contract import test_read
from tests.contract import test_write

load_tests = testscenarios.load_tests_apply_scenarios

for module in (test_copies, test_delete, test_engine, test_ids, test_read,
               test_write):
    for each in list(vars(module).values()):
        if isinstance(each, type) and issubclass(each, base.ContractTest) and (
                each.__module__ == module.__name__):
            made = base.about_whole_images(each, lab.CephLab)
            if made is not None:
                # Two modules may have classes of one name.
                made.__module__ = __name__
                made.__qualname__ = made.__name__ = (
                    module.__name__.rpartition('_')[2].capitalize()
                    + each.__name__)
                globals()[made.__name__] = made
del module, each, made
