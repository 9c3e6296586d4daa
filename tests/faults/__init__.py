"""Real file systems that fill up, vanish, hang and lie.

Each device is a file system of its own: ext4 on a loop device, or a FUSE
passthrough that can be told how to misbehave.  See ``prerequisites`` for what
the machine must have.
"""
