"""Errors on their way through the control socket: an exception as a small map, and back again.

The rule: what hyperfs raises on purpose, and what the operating system says, arrives as the same class with the same
message; anything else becomes a `DaemonError` that points to the daemon's log.
"""

from collections.abc import Mapping
from typing import Any

from hyperfs import errors
from hyperfs.errors import DaemonError, HyperfsError, PathError


def to_wire(error: BaseException) -> dict[str, Any]:
    """Return ``error`` as a map that msgpack can carry."""
    if isinstance(error, PathError):
        text = str(error).removeprefix(f"{error.path}: ")
        return {"kind": "PathError", "message": text, "errno": error.errno, "path": error.path}
    if isinstance(error, HyperfsError):
        return {"kind": type(error).__name__, "message": str(error), "errno": error.errno}
    if isinstance(error, OSError) and error.errno is not None:
        path = error.filename if isinstance(error.filename, str) else None
        return {"kind": "OSError", "message": error.strerror or str(error), "errno": error.errno, "path": path}
    return {"kind": "DaemonError", "message": f"the daemon failed ({type(error).__name__}: {error}); see its log"}


def from_wire(error: Mapping[str, Any]) -> Exception:
    """Return the exception that `to_wire` made ``error`` of; of an unknown kind, a `DaemonError`."""
    kind, message = error.get("kind"), str(error.get("message", "no reason given"))
    match kind:
        case "PathError":
            return PathError(int(error.get("errno", 0)), str(error.get("path", "")), message)
        case "OSError":
            path = error.get("path")
            number = int(error.get("errno", 0))
            return OSError(number, message, path) if path is not None else OSError(number, message)
        case str():
            known = getattr(errors, kind, None)
            if isinstance(known, type) and issubclass(known, HyperfsError):
                arrived = known(message)
                arrived.errno = int(error.get("errno", arrived.errno))
                return arrived
    return DaemonError(message)
