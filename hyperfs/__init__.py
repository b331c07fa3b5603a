"""hyperfs mounts a Hyperdrive as a folder: peer to peer, verified, with every past version.

As a library: ``async with hyperfs.open_store(path) as store`` opens drives in this process, see docs/library.md. The
rule: importing this package alone imports nothing else, so that a command that needs little starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hyperfs.drive.library import (
        Batch,
        Change,
        Compare,
        Difference,
        Drive,
        DriveWriter,
        Entry,
        ExportResult,
        ImportPlan,
        ImportResult,
        Kind,
        LogEntry,
        OpenFile,
        OpenStore,
        Progress,
        Snapshot,
        Stat,
        Usage,
        changes,
        differences,
        export,
        history,
        open_store,
        plan_import,
        run_import,
        usage,
    )
    from hyperfs.errors import HyperfsError

__all__ = [
    "Batch",
    "Change",
    "Compare",
    "Difference",
    "Drive",
    "DriveWriter",
    "Entry",
    "ExportResult",
    "HyperfsError",
    "ImportPlan",
    "ImportResult",
    "Kind",
    "LogEntry",
    "OpenFile",
    "OpenStore",
    "Progress",
    "Snapshot",
    "Stat",
    "Usage",
    "changes",
    "differences",
    "export",
    "history",
    "open_store",
    "plan_import",
    "run_import",
    "usage",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "hyperfs.errors" if name == "HyperfsError" else "hyperfs.drive.library"
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
