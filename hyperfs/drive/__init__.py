"""Hyperdrive: paths, Stat, content runs, inner drives, tags, import and export.

The room's rule: it knows tries and cores, and nothing of how blocks arrive or who asks.
"""
