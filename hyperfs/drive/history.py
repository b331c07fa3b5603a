"""What each version of a drive did.

The rule: it is what a comparison with the version before would show, and hardly ever takes one. The node that a version
wrote says what was put, and where. Whether something was there is known from the nodes before it, as long as those are
all here and not too many, and takes a lookup where they are not. Only what may have deleted something is compared: a
deletion's node is that of a neighbour, written again, and does not say what is gone.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import trio

from hyperfs import varint
from hyperfs.drive import names
from hyperfs.drive.changes import Kind, is_rewritten, presence_of, stat_of
from hyperfs.drive.hidden import MOUNTS_PREFIX, TAGS_PREFIX
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat, stat_or_none
from hyperfs.errors import EncodingError
from hyperfs.trie import Node, Trie
from hyperfs.trie.history import entries_here
from hyperfs.trie.node import Entry
from hyperfs.trie.paths import split

HELD_VERSIONS = 1 << 14
"""Of how many versions the nodes are held in memory, to know of each path whether it was there."""
HELD_BYTES = 16 << 20
"""What they may take; of a drive whose index is no larger, a far peer is asked for all of it at once."""
_NODES_READ_IN_A_LOOKUP = 4
"""How many nodes, one behind the other, are read in the time that one lookup takes."""
_VERSIONS_IN_A_TURN = 256
_AHEAD_BLOCKS = 256


@dataclass(slots=True)
class LogEntry:
    """What one version did. ``time`` is in milliseconds, None where the format keeps none (deletions, tags).

    ``action`` is ``put``, ``delete``, ``mount``, ``unmount``, ``tag``, ``untag`` or ``none``; ``path`` is a path, or
    the name of a tag, of which ``tagged`` is the version. ``kind`` says of a put whether the path was new.

    Never changed, and not frozen only because that makes making one slower, and a drive has many versions.
    """

    version: int
    action: str
    path: str
    kind: Kind | None = None
    stat: Stat | None = None
    time: int | None = None
    tagged: int | None = None


class _Found(Enum):
    """What a put found in its place."""

    NOTHING = "nothing"
    ANOTHER = "another"
    UNKNOWN = "unknown"
    """That takes a lookup."""
    THE_SAME = "the same"
    """So it may be the neighbour of what was deleted."""


async def history(snapshot: Snapshot, *, limit: int | None = None) -> AsyncGenerator[LogEntry, None]:
    """Yield what each version did, newest first, at most ``limit`` of them. Version 1 is the empty drive, and left out.

    Changes that were committed together have versions of their own. Raises `BlockNotAvailable` and `DamagedTrie` when
    it comes to what cannot be had.
    """
    oldest = 1 if limit is None else max(1, snapshot.version - limit)
    trie = snapshot.trie
    held = min(snapshot.version, HELD_VERSIONS)
    if held > _NODES_READ_IN_A_LOOKUP * (held - oldest):
        held = oldest  # for so few versions nobody reads all that were before
    async for node in trie.history(held, reverse=True):
        yield await _entry_of(trie.checkout(node.seq + 1), node)
    if held == oldest:
        return
    entries = await entries_here(trie.core, held, byte_budget=HELD_BYTES)
    if entries is None:
        if trie.core.byte_length <= HELD_BYTES:
            trie.core.prefetch([range(max(1, stop - _AHEAD_BLOCKS), stop) for stop in range(held, 1, -_AHEAD_BLOCKS)])
        async for node in trie.history(oldest, held, reverse=True):
            yield await _entry_of(trie.checkout(node.seq + 1), node)
        return
    found = _found_by_each(entries)
    for version in range(held, oldest, -1):
        if version % _VERSIONS_IN_A_TURN == 0:
            await trio.lowlevel.checkpoint()
        entry, there = entries[version - 2], found[version - 2]
        if there in (_Found.NOTHING, _Found.ANOTHER):
            yield _log_put(version, entry, was_there=there is _Found.ANOTHER)
        else:
            yield await _entry_of(trie.checkout(version), entry)


def _found_by_each(entries: Sequence[Entry]) -> list[_Found]:
    """Tell of each of a trie's entries, oldest first from the first one on, what it found in its place."""
    found: list[_Found] = []
    newest: dict[tuple[bool, str | tuple[str, ...]], int] = {}
    deleted = -1  # the last one that may have deleted something, whatever that was
    for index, entry in enumerate(entries):
        key = entry.key
        # Keys of equal parts are one: "dir" and "dir/"
        place = (entry.hidden, key if key and key[0] != "/" and key[-1] != "/" else tuple(split(key)))
        before = newest.get(place, -1)
        newest[place] = index
        if not key:
            there = _Found.THE_SAME
        elif before < 0:
            there = _Found.NOTHING
        elif _says_the_same(entry, entries[before]):
            there = _Found.THE_SAME
        else:
            there = _Found.ANOTHER if before > deleted else _Found.UNKNOWN
        if there is _Found.THE_SAME:
            deleted = index
        found.append(there)
    return found


async def _entry_of(newer: Trie, node: Node | Entry) -> LogEntry:
    """Return what the newest version of ``newer`` did, whose node is ``node``."""
    older = newer.checkout(newer.version - 1)
    if node.key:
        with suppress(EncodingError):  # a key that nobody can ask for, though it can be stored
            there = await older.get(node.key, hidden=node.hidden)
            if there is None or not _says_the_same(node, there):
                return _log_put(newer.version, node, was_there=there is not None)
    return await compared(newer, older)


async def compared(newer: Trie, older: Trie) -> LogEntry:
    """Return what the newest version of ``newer`` did, found by comparing it with ``older``, the one before."""
    visible = [difference async for difference in newer.diff(older) if not is_rewritten(difference)]
    if len(visible) == 1:
        (difference,) = visible
        if difference.newer is not None:
            return _log_put(newer.version, difference.newer, was_there=difference.older is not None)
        path, stat = names.normalise(difference.key), stat_of(difference.older)
        action = "unmount" if stat is not None and stat.mount is not None else "delete"
        return LogEntry(newer.version, action, path, Kind.GONE, stat)
    if visible:  # one block changes one path, or takes a whole folder away
        paths = [names.normalise(difference.key) for difference in visible]
        return LogEntry(newer.version, "delete", _common_directory(paths), Kind.GONE)
    async for difference in newer.diff(older, hidden=True):
        if not is_rewritten(difference):
            kind = presence_of(difference.newer is not None, difference.older is not None)
            value = None if difference.newer is None else difference.newer.value
            entry = _log_hidden(newer.version, difference.key, value, kind)
            if entry is not None:
                return entry
    return LogEntry(newer.version, "none", "")


def _common_directory(paths: list[str]) -> str:
    """Return the longest path that all of ``paths`` are, or are below."""
    low, high = min(paths).split("/"), max(paths).split("/")
    count = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return "/".join(low[:count])


def _says_the_same(one: Node | Entry, other: Node | Entry) -> bool:
    return one.value == other.value and one.flags == other.flags


def _log_put(version: int, node: Node | Entry, *, was_there: bool) -> LogEntry:
    """Return what a version did that put ``node``."""
    kind = Kind.CHANGED if was_there else Kind.NEW
    if node.hidden:
        return _log_hidden(version, node.key, node.value, kind) or LogEntry(version, "none", "")
    stat = stat_or_none(node.value)
    action = "mount" if stat is not None and stat.mount is not None else "put"
    return LogEntry(version, action, names.normalise(node.key), kind, stat, stat.ctime if stat else None)


def _log_hidden(version: int, raw_key: str, value: bytes | None, kind: Kind) -> LogEntry | None:
    """Return what a version did to a hidden key, None when it is of no kind that is known. ``value`` is the new one."""
    key = names.normalise(raw_key)
    if key.startswith(f"{TAGS_PREFIX}/"):
        name = key[len(TAGS_PREFIX) + 1 :]
        if kind is Kind.GONE:
            return LogEntry(version, "untag", name, kind)
        try:
            tagged = varint.decode(value or b"")[0]
        except EncodingError:
            tagged = None
        return LogEntry(version, "tag", name, kind, tagged=tagged)
    if key.startswith(f"{MOUNTS_PREFIX}/"):
        return LogEntry(version, "unmount" if kind is Kind.GONE else "mount", key[len(MOUNTS_PREFIX) + 1 :], kind)
    return None
