"""Paths of a drive, and the one decision about which names a person may be shown.

The rule: a path in here has no slash in front or behind and no empty part; the root is the empty string. A name that a
file system cannot hold, or that would lead out of a folder, is never listed, looked up, exported or written: a drive's
author is not trusted. A backslash counts as a slash, as in the reference's drive, so no name has one.
"""

import errno

from hyperfs.errors import PathError

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4095
PART_PREFIX = ".hyperfs-part-"
"""How the names begin that an export gives to unfinished files: neither imported nor exported."""
_BRIEF = 80


def normalise(path: str) -> str:
    """Return ``path`` as the drive keeps it: backslashes are slashes, repeated ones are one, none at either end."""
    if path.startswith("./"):
        path = path[2:]
    return "/".join(part for part in path.replace("\\", "/").split("/") if part)


def split(path: str) -> tuple[str, str]:
    """Return the parent's path and the name of a normal path."""
    parent, _, name = path.rpartition("/")
    return parent, name


def join(parent: str, name: str) -> str:
    """Return the path of ``name`` in ``parent``."""
    return f"{parent}/{name}" if parent else name


def ancestors(path: str) -> list[str]:
    """Return the paths above ``path``, nearest to the root first, without the root itself."""
    found = []
    position = path.find("/")
    while position >= 0:
        found.append(path[:position])
        position = path.find("/", position + 1)
    return found


def is_presentable(name: str) -> bool:
    """Tell whether ``name`` may appear in a directory."""
    return why_not_presentable(name) is None


def why_not_presentable(name: str) -> str | None:
    """Return what keeps ``name`` out of a directory, or None when nothing does."""
    if name in ("", ".", ".."):
        return "it is empty" if not name else f"{name!r} has a meaning of its own"
    if "/" in name or "\\" in name:
        return "it holds a slash"
    if "\0" in name:
        return "it holds a NUL"
    if name.isascii():
        size = len(name)
    else:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            return "it is not UTF-8"
    return f"it is longer than {MAX_NAME_BYTES} bytes" if size > MAX_NAME_BYTES else None


def is_tag(name: str) -> bool:
    """Tell whether a version may be called ``name``: behind a key and a plus sign it must not read as anything else."""
    return is_presentable(name) and not name.isdigit()


def is_too_long(path: str) -> bool:
    """Tell whether no program could open ``path``; a drive's author may nest names without end."""
    return len(path) > MAX_PATH_BYTES or (not path.isascii() and len(path.encode(errors="replace")) > MAX_PATH_BYTES)


def brief(text: str) -> str:
    """Return a name or a path as a log line may have it: quoted, without control characters, and not long."""
    return repr(text if len(text) <= _BRIEF else text[:_BRIEF] + "…")


def checked(path: str) -> str:
    """Return a path that is to be written, normalised.

    Raises `PathError` (EINVAL, ENAMETOOLONG) when no drive should hold it.
    """
    path = normalise(path)
    if not path:
        raise PathError(errno.EINVAL, "/", "the root of a drive has no entry of its own")
    for part in path.split("/"):
        reason = why_not_presentable(part)
        if reason is not None:
            code = errno.ENAMETOOLONG if "longer" in reason else errno.EINVAL
            raise PathError(code, path, f"the name {part!r} cannot be used: {reason}")
    if is_too_long(path):
        raise PathError(errno.ENAMETOOLONG, path[:80] + "…", f"the path is longer than {MAX_PATH_BYTES} bytes")
    return path
