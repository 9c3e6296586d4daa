"""Tests against real services on 127.0.0.1, and the harness they share.

``server`` runs Glance, ``mariadb`` a database server, ``file_server`` a web
server to import from; ``client`` speaks HTTP to Glance; ``base`` holds the
test cases' common parts.
"""
