"""What a drive holds, told in the same words by hyperfs and by the reference peer, so that the two can be compared."""

from typing import Any

from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat

from .patterns import sha256

_OF_NO_MATTER = ("offset", "byteOffset", "blocks", "ctime")


async def clone(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Read everything in ``snapshot`` and return it as the reference peer's ``drive.clone`` does.

    Implied directories are left out, see `comparable`.
    """
    entries = {}
    async for entry in snapshot.walk():
        if entry.implied:
            continue
        described = _describe(entry.stat)
        if entry.stat.is_file:
            described["sha256"] = sha256(await snapshot.read(entry, 0, entry.stat.size))
        entries[f"/{entry.path}"] = described
    return entries


def comparable(theirs: dict[str, dict[str, Any]], ours: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what the reference cloned less the directories that are only implied.

    Of those the reference makes up a Stat out of one below; hyperfs makes up another.
    """
    return {path: stat for path, stat in theirs.items() if path in ours or (stat["mode"] & 0o170000) != 0o040000}


def content_of(cloned: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a clone without what depends on the order of writing: where blocks lie, and the change time."""
    return {
        path: {name: value for name, value in stat.items() if name not in _OF_NO_MATTER}
        for path, stat in cloned.items()
    }


def _describe(stat: Stat) -> dict[str, Any]:
    return {
        "mode": stat.mode,
        "uid": stat.uid,
        "gid": stat.gid,
        "size": stat.size,
        "blocks": stat.blocks,
        "offset": stat.offset,
        "byteOffset": stat.byte_offset,
        "mtime": stat.mtime,
        "ctime": stat.ctime,
        "linkname": stat.linkname,
        "metadata": {name: None if value is None else value.hex() for name, value in stat.attributes.items()},
        "mount": None
        if stat.mount is None
        else {"key": stat.mount.key.hex(), "version": stat.mount.version, "hypercore": stat.mount.is_core},
    }
