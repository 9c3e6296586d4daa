"""What the bytes of an image may be, told from their beginning.

``declaration`` is what a user says of an image, ``rules`` what a deployer
allows; ``inspection`` compares both with the first MiB of the bytes, with
the help of ``signatures`` and ``qcow2``; ``stream`` does it to bytes that
pass by.  ``addresses``, ``urls`` and ``fetch`` bring bytes from a URL without
being led astray.  Nothing here needs Glance.
"""
