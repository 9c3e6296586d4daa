"""The engine that leaves the copies to a Ceph cluster, through librbd."""
