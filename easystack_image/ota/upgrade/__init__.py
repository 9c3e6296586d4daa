"""An upgrade: from the release that serves to another, or back.

``machine`` goes from step to step, each of which is in ``steps``; ``rollback``
goes back.  What was done is in the journal, what there is is asked of whoever
started the instances, and of their gates: so another process can go on at any
point, after the first was killed.
"""
