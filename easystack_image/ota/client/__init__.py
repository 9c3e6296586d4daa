"""The updater's client: what is offered, and getting it, without trust."""
