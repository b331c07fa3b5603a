"""How many files this process may have open, and what that is enough for.

The rule: what peers and drives of others can make us open is bounded well below it.
"""

import resource
from typing import Final

_FILES_OF_A_CORE: Final = 7
_FILES_KEPT_FREE: Final = 512
"""For connections, clients, and whatever is opened for a moment."""
_LEAST_CORES: Final = 16


def raise_file_limit() -> None:
    """Let this process, and those that it starts, have as many files open as they may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def affordable_cores() -> int:
    """Return how many cores may be open at a time."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        files = 1 << 20
    return max(_LEAST_CORES, (files - _FILES_KEPT_FREE) // _FILES_OF_A_CORE)
