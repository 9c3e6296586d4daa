"""One suite for every engine of the block store.

``lab.py`` says what an engine has to bring along: a laboratory, in which its
copies can be damaged and its devices taken away.  ``base.py`` lists the
engines.
"""
