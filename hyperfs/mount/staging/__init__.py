"""What was written to a mounted drive and is not in it yet.

The rule: nothing in here knows of FUSE or of a daemon. A `Workspace` is a file system over a drive's snapshot: it is
told of changes, shows them at once, keeps them in the store's staging folder, and makes commits of them.
"""
