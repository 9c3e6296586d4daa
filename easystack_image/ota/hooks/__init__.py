"""Hooks: what is done before, at and after each step of an upgrade.

A hook is a class (``base.Hook``) that a package of the release announces in
the entry points ``easystack_image.ota_hooks``, or an executable that the
deployer puts into a directory.  Classes run with the Python of a slot,
because that is where Glance and its libraries are: the updater's environment
has none of them.  So there are two sides here, and a border of JSON between:

the updater's side, with nothing but the standard library
    ``calls`` runs the hooks of a point, ``executables`` finds the
    deployer's, ``leash`` ends what takes too long; passwords are kept out
    of what they say.
the slot's side
    ``registry`` loads the classes and puts them in order, ``runner`` runs
    one, ``own`` has ours.

``base`` is what both sides know; ``testing`` helps to test hooks.
"""
