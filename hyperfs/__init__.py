"""hyperfs mounts a Hyperdrive as a folder: peer to peer, verified, with every past version.

As a library: ``async with hyperfs.open_store(path) as store`` opens drives in this process, see docs/library.md. The
rule: importing this package alone imports nothing else, so that a command that needs little starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hyperfs.crypto import KeyPair as KeyPair
    from hyperfs.crypto import key_pair as key_pair
    from hyperfs.drive.batch import Batch as Batch
    from hyperfs.drive.changes import Change as Change
    from hyperfs.drive.changes import Difference as Difference
    from hyperfs.drive.changes import Kind as Kind
    from hyperfs.drive.changes import changes as changes
    from hyperfs.drive.changes import differences as differences
    from hyperfs.drive.drive import Drive as Drive
    from hyperfs.drive.entry import Entry as Entry
    from hyperfs.drive.exporter import ExportResult as ExportResult
    from hyperfs.drive.exporter import export as export
    from hyperfs.drive.history import LogEntry as LogEntry
    from hyperfs.drive.history import history as history
    from hyperfs.drive.import_plan import Compare as Compare
    from hyperfs.drive.import_plan import ImportPlan as ImportPlan
    from hyperfs.drive.import_plan import plan_import as plan_import
    from hyperfs.drive.importer import ImportResult as ImportResult
    from hyperfs.drive.importer import Progress as Progress
    from hyperfs.drive.importer import run_import as run_import
    from hyperfs.drive.library import OpenStore as OpenStore
    from hyperfs.drive.library import open_store as open_store
    from hyperfs.drive.links import follow as follow
    from hyperfs.drive.snapshot import OpenFile as OpenFile
    from hyperfs.drive.snapshot import Snapshot as Snapshot
    from hyperfs.drive.stat import Stat as Stat
    from hyperfs.drive.usage import Usage as Usage
    from hyperfs.drive.usage import usage as usage
    from hyperfs.drive.writer import DriveWriter as DriveWriter
    from hyperfs.errors import HyperfsError as HyperfsError
    from hyperfs.library.connection import Connection as Connection
    from hyperfs.library.core import OpenCore as OpenCore
    from hyperfs.library.downloads import Download as Download
    from hyperfs.library.encodings import ValueEncoding as ValueEncoding
    from hyperfs.library.events import EventStream as EventStream
    from hyperfs.library.extensions import Extension as Extension
    from hyperfs.library.opening import open_core as open_core
    from hyperfs.library.peers import CorePeer as CorePeer
    from hyperfs.library.storages import RandomAccess as RandomAccess
    from hyperfs.library.storages import memory as memory

_NAMES_OF = {
    "hyperfs.crypto": ("KeyPair", "key_pair"),
    "hyperfs.drive.changes": ("Change", "Difference", "Kind", "changes", "differences"),
    "hyperfs.drive.batch": ("Batch",),
    "hyperfs.drive.drive": ("Drive",),
    "hyperfs.drive.entry": ("Entry",),
    "hyperfs.drive.exporter": ("ExportResult", "export"),
    "hyperfs.drive.history": ("LogEntry", "history"),
    "hyperfs.drive.import_plan": ("Compare", "ImportPlan", "plan_import"),
    "hyperfs.drive.importer": ("ImportResult", "Progress", "run_import"),
    "hyperfs.drive.library": ("OpenStore", "open_store"),
    "hyperfs.drive.links": ("follow",),
    "hyperfs.drive.snapshot": ("OpenFile", "Snapshot"),
    "hyperfs.drive.stat": ("Stat",),
    "hyperfs.drive.usage": ("Usage", "usage"),
    "hyperfs.drive.writer": ("DriveWriter",),
    "hyperfs.errors": ("HyperfsError",),
    "hyperfs.library.connection": ("Connection",),
    "hyperfs.library.core": ("OpenCore",),
    "hyperfs.library.downloads": ("Download",),
    "hyperfs.library.encodings": ("ValueEncoding",),
    "hyperfs.library.events": ("EventStream",),
    "hyperfs.library.extensions": ("Extension",),
    "hyperfs.library.opening": ("open_core",),
    "hyperfs.library.peers": ("CorePeer",),
    "hyperfs.library.storages": ("RandomAccess", "memory"),
}
_HOME_OF = {name: home for home, names in _NAMES_OF.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
