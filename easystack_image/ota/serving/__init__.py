"""Instances of the image service, side by side on one listening socket.

The socket is held outside (by systemd, or by the holder of this package) and
inherited by each instance, so that it is never closed while one is exchanged
for another.  An instance is one uWSGI master with its workers, all from one
slot.  It lives in a directory of its own:

``gate``
    While this file exists the instance takes requests from the shared
    socket.  Without it, its workers load the application and wait.
``private.sock``
    One more worker answers here only: what nobody but the updater asks.
``stats``, ``fifo``
    uWSGI's own: what each worker does, and what the master is told.

Only this much is said by whoever starts an instance and whoever controls it;
neither knows of the other.
"""
