"""Everything that can happen to a store, for minutes, and then a reckoning.

``python -m tests.soak`` runs a real Glance with two workers and a real healer
on small file systems of their own.  Clients upload, download and delete
images, and compare every byte, while a schedule that was drawn from a seed
damages copies, takes devices away, fills, slows, replaces and drains them,
and kills the processes.  Then the dust settles, and everything is checked.

What a seed decides, and what it does not:

* The schedule (which kinds of fault, in which order, how long, on which
  devices by preference) is drawn in advance, by ``schedule``, from the seed
  alone.  A fault lasts until so many others came, not for a time.
* Each client draws what it does, sizes and contents from a generator of its
  own.
* How far these are apart in time depends on the machine; so does which image
  a fault hits among those that bear it.  The same seed gives the same story
  with other coincidences: run it several times to replay a failure.
"""
