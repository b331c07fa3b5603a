"""Where symbolic links of a drive lead: never out of it.

The rule: a link is followed as in a chroot at the root of the drive that holds it, whichever drive that is mounted in.
An absolute target begins at that root, and one that climbs above it leads nowhere. So a drive reads the same wherever
it is mounted, and its author cannot make anybody's program open what is not in it.
"""

import errno
from contextlib import suppress

import trio

from hyperfs.drive import names
from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import PathError

MAX_FOLLOWED = 40
"""How many links one path may lead through, as on Linux."""
_NO_NAMES = ("", ".", "..")


async def follow(snapshot: Snapshot, path: str) -> Entry:
    """Return what ``path`` leads to when every link on the way, the last one too, is followed; ``..`` climbs.

    The entry's own path is the one without links. Raises `PathError`: as `Snapshot.stat`, ELOOP after `MAX_FOLLOWED`
    links, ENOENT for a link that leads out of the drive which holds it.
    """
    return await _walk(snapshot, await snapshot.stat(""), path, "")


async def confined_target(snapshot: Snapshot, link: Entry) -> str:
    """Return the target that a file system should show for ``link``: one that cannot lead out of the drive.

    It is the link's own when that climbs at most to the drive's root, and only at its beginning: whoever follows it
    comes past other links, but those are confined, too. Otherwise it is a relative path to the same place, of which
    the directory is followed here. Raises `PathError`: EINVAL when ``link`` is none, ENOENT when it leads out of the
    drive, or climbs from what is not there; and as `follow`.
    """
    target = link.stat.linkname
    if not link.is_link or target is None:
        raise PathError(errno.EINVAL, link.path, "it is not a symbolic link")
    is_absolute = _checked(target, link.path).startswith("/")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((count for count, part in enumerate(parts) if part != ".."), len(parts))
    depth = link.inner_path.count("/")
    if climbs > (0 if is_absolute else depth):
        raise _leads_out(link.path)
    if ".." not in parts[climbs:]:
        return target if not is_absolute else _bounded("../" * depth + target.lstrip("/"), link.path)
    root = link.drive_root
    start = await snapshot.stat(root if is_absolute else names.split(link.path)[0])
    # The last name is left to whoever follows the target: it may be a link of its own, or not be there.
    keep = parts[-1] if parts[-1] != ".." else ""
    directory = await _walk(snapshot, start, "/".join(parts[:-1] if keep else parts), root)
    return _bounded("../" * depth + names.join(directory.path[len(root) :].lstrip("/"), keep), link.path)


def _checked(target: str, path: str) -> str:
    """Return the target of the link at ``path`` if a file system could have one like it."""
    if not target or "\0" in target:
        raise PathError(errno.ENOENT, path, "the symbolic link has no target that a file system could have")
    return _bounded(target, path)


def _bounded(target: str, path: str) -> str:
    if names.is_too_long(target):
        raise PathError(errno.ENAMETOOLONG, path, "the target of the symbolic link is too long")
    return target or "."


async def _walk(snapshot: Snapshot, start: Entry, path: str, root: str) -> Entry:
    """Follow ``path`` from ``start`` to its end; its own ``..`` climb no higher than ``root``."""
    here = start
    waiting = [(part, root) for part in reversed(path.split("/"))]
    followed = 0
    while waiting:
        part, root = waiting.pop()
        if not here.is_directory:
            raise PathError(errno.ENOTDIR, path, f"{here.path!r} is not a directory")
        if part in _NO_NAMES:
            if part == ".." and here.path == root:
                raise _leads_out(path)
            here = await snapshot.stat(names.split(here.path)[0]) if part == ".." else here
            continue
        ahead = [part]
        while waiting and waiting[-1][0] not in _NO_NAMES:
            ahead.append(waiting.pop()[0])
        found, used = await _descend(snapshot, here, ahead)
        waiting += [(name, root) for name in reversed(ahead[used:])]
        if not found.is_link:
            here = found
            continue
        followed += 1
        if followed > MAX_FOLLOWED:
            raise PathError(errno.ELOOP, path, "it leads through too many symbolic links")
        await trio.lowlevel.checkpoint()
        target = _checked(found.stat.linkname or "", found.path)
        here = await snapshot.stat(found.drive_root if target.startswith("/") else names.split(found.path)[0])
        waiting += [(step, found.drive_root) for step in reversed(target.split("/"))]
    return here


async def _descend(snapshot: Snapshot, here: Entry, ahead: list[str]) -> tuple[Entry, int]:
    """Return the first entry below directory ``here`` that is no directory, or the last, and of how many names it is.

    A path is looked up as a whole, or halved: one lookup a name would let a link of thousands of names take seconds.
    """
    with suppress(PathError):
        return await snapshot.stat(names.join(here.path, "/".join(ahead))), len(ahead)
    known, last = 0, len(ahead) - 1
    while known < last:
        await trio.lowlevel.checkpoint()
        middle = (known + last + 1) // 2
        try:
            entry = await snapshot.stat(names.join(here.path, "/".join(ahead[known:middle])))
        except PathError:
            last = middle - 1
        else:
            if entry.is_directory:
                here, known = entry, middle
            else:
                last = middle - 1
    return await snapshot.stat(names.join(here.path, ahead[known])), known + 1


def _leads_out(path: str) -> PathError:
    return PathError(errno.ENOENT, path, "it leads out of the drive")
