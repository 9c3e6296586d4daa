"""Over the air: releases, slots, and upgrades that nobody notices.

The updater lives in an environment of its own, with tuf, securesystemslib and
urllib3 and nothing else beside this package: ``client``, ``journal``,
``release`` and ``slots`` import no more than these and the standard library.
Signing, which happens elsewhere, needs ``securesystemslib[crypto]``, too.
"""
