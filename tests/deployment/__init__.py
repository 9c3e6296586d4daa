"""A whole deployment: Keystone, MariaDB and Glance with all of ours.

``deployment`` puts it together and is what tests ask for; ``keystone`` runs
the identity service, ``accounts`` says who there is; ``serve`` brings it up
and leaves it running, for ``tox -e serve``.
"""
