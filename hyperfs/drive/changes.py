"""What differs between two versions of a drive, for the kernel's caches and for people.

The rules: a path is named when what a reader of it sees differs, and no other; a node that a deletion wrote again is no
difference. The work follows the number of differences, not the size of the drive.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum

from hyperfs.drive import names
from hyperfs.drive.descent import newest_at, own_node
from hyperfs.drive.entry import implied_stat
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat, stat_or_none
from hyperfs.errors import PathError
from hyperfs.trie import Change as NodeChange
from hyperfs.trie import Node

MAX_TEXT = 256 * 1024 * 1024
"""How many characters of paths, the directories above them counted anew for each, are looked at one by one."""


class Kind(Enum):
    """How a path differs."""

    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"
    LISTING = "listing"
    """A directory that is itself the same, and holds other names or entries than it did."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs. With ``whole_tree``, everything below it may differ too, and is not named."""

    path: str
    kind: Kind
    whole_tree: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """One file, link or directory that differs, as people are told. The Stat of the side that lacks it is None."""

    path: str
    kind: Kind
    newer: Stat | None
    older: Stat | None


async def changes(newer: Snapshot, older: Snapshot) -> AsyncGenerator[Change, None]:
    """Yield each path of which readers see something else in ``newer`` than in ``older``, once.

    Implied directories count: they come and go with what is below them, and take their times from it. Mounted drives
    are compared as far as ``older`` went into them. When too much differs, the root comes with its whole tree, and
    paths may have come before.
    """
    async with aclosing(_own_changes(newer, older)) as own:
        async for change in own:
            yield change
    new_table, old_table = await newer.mounts(), await older.mounts()
    for path, old_inner in older.opened_mounts.items():
        if new_table.targets.get(path) != old_table.targets.get(path):
            continue  # named by _own_changes, with its whole tree
        try:
            new_inner, _ = await newer.locate(path, enter=True)
        except PathError:
            yield Change(path, Kind.CHANGED, whole_tree=True)
            continue
        if new_inner is old_inner:
            continue
        async with aclosing(changes(new_inner, old_inner)) as inner:
            async for change in inner:
                if change.path:
                    yield replace(change, path=names.join(path, change.path))
                else:
                    yield Change(path, Kind.LISTING)  # what is shown of the mount point itself is the outer drive's


async def _own_changes(newer: Snapshot, older: Snapshot) -> AsyncGenerator[Change, None]:
    if newer.version == older.version:
        return
    told: set[str] = set()
    above: set[str] = set()
    above_rewritten: set[str] = set()
    text = 0
    new_table, old_table = await newer.mounts(), await older.mounts()
    for path in new_table.targets.keys() | old_table.targets.keys():
        if new_table.targets.get(path) != old_table.targets.get(path):
            told.add(path)
            above.update(names.ancestors(path), ("",))
            kind = presence_of(path in new_table.targets, path in old_table.targets)
            yield Change(path, kind, whole_tree=True)
    async for difference in newer.trie.diff(older.trie):
        path = names.normalise(difference.key)
        if path in told or not path:
            continue
        # What is nested too deep is not shown, but the directories that it implies are.
        shown = path if not names.is_too_long(path) else path[: names.MAX_PATH_BYTES // 4].rpartition("/")[0] + "/…"
        text += len(shown) * (shown.count("/") + 1)
        if text > MAX_TEXT:
            yield Change("", Kind.CHANGED, whole_tree=True)
            return
        if is_rewritten(difference) or shown is not path:
            (above_rewritten if is_rewritten(difference) else above).update(names.ancestors(shown), ("",))
            continue
        told.add(path)
        above.update(names.ancestors(path), ("",))
        yield await _change_of(newer, older, path, difference)
    for path in above | above_rewritten:
        change = None if path in told else await _change_above(newer, older, path)
        if change is not None and (change.kind is not Kind.LISTING or path in above):
            yield change


async def _change_of(newer: Snapshot, older: Snapshot, path: str, difference: NodeChange) -> Change:
    """Tell how a path differs whose node differs; without a node it may still be a directory that others imply."""
    new, old = difference.newer, difference.older
    new_directory = await newest_at(newer.trie, path) is not None if new is None else _is_directory(new)
    old_directory = await newest_at(older.trie, path) is not None if old is None else _is_directory(old)
    kind = presence_of(new is not None or new_directory, old is not None or old_directory)
    return Change(path, kind, whole_tree=kind is Kind.CHANGED and new_directory != old_directory)


async def _change_above(newer: Snapshot, older: Snapshot, path: str) -> Change:
    """Tell how a directory differs that has, in both versions, the same node or none."""
    new, old = await newest_at(newer.trie, path), await newest_at(older.trie, path)
    if path and (new is None or old is None):
        in_new = new is not None or bool((await newer.mounts()).names_below(path))
        in_old = old is not None or bool((await older.mounts()).names_below(path))
        return Change(path, presence_of(in_new, in_old))
    if path and new is not None and await own_node(newer.trie, new, path.count("/") + 1) is not None:
        return Change(path, Kind.LISTING)
    same = implied_stat(new.value if new else None) == implied_stat(old.value if old else None)
    return Change(path, Kind.LISTING if same else Kind.CHANGED)


async def differences(newer: Snapshot, older: Snapshot) -> AsyncGenerator[Difference, None]:
    """Yield what a person is told of two versions: paths with a node of their own, in the trie's order."""
    async for difference in newer.trie.diff(older.trie):
        path = names.normalise(difference.key)
        if path and not is_rewritten(difference):
            new, old = difference.newer, difference.older
            kind = presence_of(new is not None, old is not None)
            yield Difference(path, kind, stat_of(new), stat_of(old))


def is_rewritten(difference: NodeChange) -> bool:
    """Tell whether a node is only a neighbour's copy, written again when something else was deleted."""
    new, old = difference.newer, difference.older
    return new is not None and old is not None and new.value == old.value and new.flags == old.flags


def presence_of(in_newer: bool, in_older: bool) -> Kind:
    """Return how a path differs that is, or is not, in either version."""
    if in_newer and in_older:
        return Kind.CHANGED
    return Kind.NEW if in_newer else Kind.GONE


def stat_of(node: Node | None) -> Stat | None:
    """Return the Stat of a node; None where there is none, or it holds none."""
    return None if node is None else stat_or_none(node.value)


def _is_directory(node: Node) -> bool:
    stat = stat_of(node)
    return stat is not None and stat.is_directory
