"""Random access files: on disk, in memory, or whatever a user passes in that follows the protocols here.

The rule: methods of a file block (callers choose the thread); only `RandomAccessFile.read_nowait` never waits for a
disk. What a write leaves in the page cache is durable only after `RandomAccessFile.sync`.
"""

from hyperfs.storage.deferred import DeferredDirectory
from hyperfs.storage.disk import DiskDirectory
from hyperfs.storage.memory import MemoryDirectory
from hyperfs.storage.protocol import Directory, RandomAccessFile

__all__ = ["DeferredDirectory", "Directory", "DiskDirectory", "MemoryDirectory", "RandomAccessFile"]
