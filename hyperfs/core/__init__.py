"""Hypercore: append, get, seek, proofs, SLEEP files, and the store of many cores.

The rule: nothing here knows what blocks mean, or where missing ones come from.
"""
