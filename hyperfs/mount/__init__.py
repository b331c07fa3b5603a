"""A drive as a folder: FUSE operations over a drive's snapshots.

The rule: nothing in here knows of sockets, peers or tries. A drive is asked to stat, list, read a range, and to say
when it changed. Importing this package does not import pyfuse3; `hyperfs.mount.session` does.
"""

from hyperfs.mount.options import DEFAULT_FLUSH_SECONDS, NODE_CACHE_BYTES, MountOptions

__all__ = ["DEFAULT_FLUSH_SECONDS", "NODE_CACHE_BYTES", "MountOptions"]
