"""One mounted drive, from the mount to the unmount: the only module that starts and ends a FUSE session.

The rule: whatever ends `run_mount`, the folder is unmounted when it returns.
"""

import os
from collections.abc import Callable

from hyperfs.drive.drive import Drive
from hyperfs.mount.options import MountOptions


async def run_mount(
    drive: Drive,
    mountpoint: str | os.PathLike[str],
    options: MountOptions | None = None,
    *,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Show ``drive`` at ``mountpoint``; return once it is unmounted, by whomever.

    There can be one in a process at a time. ``on_ready`` is called, in the caller's task context, once the folder
    answers. Cancelling it, or SIGTERM, SIGINT or SIGHUP when it runs in the main thread, unmounts (lazily where
    somebody is still inside) and, after a signal, returns.

    Raises:
        MountFailed: no FUSE here, or the mount point is missing, not an empty directory, or not permitted. A mount
            point left dead by a killed mount process is recognised and mounted over.
    """
    raise OSError
