"""Errors on their way through the control socket: an exception as a value of a few fields, and back again.

The rule: what hyperfs raises on purpose, and what the operating system says, arrives as the same class with the same
message; anything else becomes a `DaemonError` that points to the daemon's log.
"""

from dataclasses import dataclass

from hyperfs import errors
from hyperfs.errors import DaemonError, HyperfsError, PathError


@dataclass(frozen=True, slots=True)
class Described:
    """An exception's class, message, errno, and path, as far as it has them."""

    kind: str
    message: str
    errno: int = 0
    path: str | None = None


def describe(error: BaseException) -> Described:
    """Return ``error`` in a form that can be sent."""
    if isinstance(error, PathError):
        return Described("PathError", str(error).removeprefix(f"{error.path}: "), error.errno, error.path)
    if isinstance(error, HyperfsError):
        return Described(type(error).__name__, str(error), error.errno)
    if isinstance(error, OSError) and error.errno is not None:
        path = error.filename if isinstance(error.filename, str) else None
        return Described("OSError", error.strerror or str(error), error.errno, path)
    return Described("DaemonError", f"the daemon failed ({type(error).__name__}: {error}); see its log")


def exception_of(told: Described) -> Exception:
    """Return the exception that `describe` was given; of an unknown kind, a `DaemonError`."""
    match told.kind:
        case "PathError":
            return PathError(told.errno, told.path or "", told.message)
        case "OSError":
            return OSError(told.errno, told.message, *([] if told.path is None else [told.path]))
    known = getattr(errors, told.kind, None)
    if isinstance(known, type) and issubclass(known, HyperfsError):
        arrived = known(told.message)
        arrived.errno = told.errno or known.errno
        return arrived
    return DaemonError(told.message)
