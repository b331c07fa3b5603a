"""The process that owns a store, and the client by which commands and mounts talk to it.

The rule of this room: one process writes a store's files, and it never opens a path that a user named, because that
path could lie in a mount that waits for this very process.
"""
