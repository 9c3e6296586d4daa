"""glance_store's own public tests, run on our driver.

``test_functional.py``
    the functional tests that glance_store has for its drivers
``test_file_driver.py``
    the tests of the ``file`` driver that hold for any driver
``test_installed.py``
    tests of glance_store itself, with our package installed beside it
"""
