"""The parts of the ceph engine that need no cluster."""
