"""Laying what is staged over a version that somebody else committed.

The rule: all that has to be known of the new version is read before anything is changed; then nothing waits, so that
who looks sees one version or the other, and what cannot be read yet changes nothing.
"""

import errno
from contextlib import aclosing

from hyperfs.drive.changes import changes
from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.errors import PathError
from hyperfs.mount.staging.nodes import Node, stat_of
from hyperfs.mount.staging.tree import Tree
from hyperfs.mount.staging.workspace import Workspace
from hyperfs.slices import Slices


async def rebase(workspace: Workspace, snapshot: Snapshot) -> None:
    """Have a workspace lie over ``snapshot``, a newer version than its own; what is staged stays as it is.

    No commit may be under way, and one is rebased at a time. Raises what reading the drive raises. Failed or cancelled,
    nothing was changed.
    """
    tree = workspace.tree
    await snapshot.mounts()  # so that names can be looked up in it without waiting
    if snapshot.version == tree.snapshot.version:
        tree.snapshot = snapshot  # of a drive that is mounted in it there may be a newer version
        return
    rebasing = await _Rebasing.begin(workspace, snapshot)
    while True:
        async with workspace.exclusively():
            missing = rebasing.end()
        if not missing:
            return
        await rebasing.look(missing)


async def rebase_exclusively(workspace: Workspace, snapshot: Snapshot) -> None:
    """Do `rebase` for who keeps names and attributes from changing already."""
    rebasing = await _Rebasing.begin(workspace, snapshot)
    while missing := rebasing.end():
        await rebasing.look(missing)


class _Rebasing:
    """What is known of a newer version, at the paths where it differs and something is staged."""

    def __init__(self, workspace: Workspace, snapshot: Snapshot, differences: "_Differences") -> None:
        self._workspace = workspace
        self._snapshot = snapshot
        self._differences = differences
        self._found: dict[str, _There] = {}

    @classmethod
    async def begin(cls, workspace: Workspace, snapshot: Snapshot) -> "_Rebasing":
        await snapshot.mounts()
        return cls(workspace, snapshot, await _Differences.between(snapshot, workspace.tree.snapshot))

    async def look(self, paths: list[str]) -> None:
        for path in paths:
            self._found[path] = await _look(self._workspace.tree, self._snapshot, path)

    def end(self) -> list[str]:
        """Lay the workspace over the version, or do nothing and return the paths that have to be looked at before."""
        tree = self._workspace.tree
        nodes = self._differences.nodes(tree)
        missing = [path for path, _ in nodes if path not in self._found]
        if not missing:
            tree.snapshot = self._snapshot
            for path, node in nodes:
                _rebase_node(self._workspace, node, self._found[path])
        return missing


class _There:
    """What a version has at a path: an ``entry`` of the drive's own, and what reads it if it is a file; or nothing."""

    def __init__(self, entry: Entry | None, file: OpenFile | None) -> None:
        self.entry = entry
        self.file = file


async def _look(tree: Tree, snapshot: Snapshot, path: str) -> _There:
    try:
        entry = await snapshot.stat(path)
    except PathError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return _There(None, None)
    stat = stat_of(entry)
    return _There(entry, await tree.open_run(stat) if stat.is_file and entry.volume is snapshot else None)


class _Differences:
    """The paths at which two versions differ, and those below which anything may."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._trees: list[str] = []

    @classmethod
    async def between(cls, newer: Snapshot, older: Snapshot) -> "_Differences":
        found, slices = cls(), Slices()
        async with aclosing(changes(newer, older)) as different:
            async for change in different:
                found._paths.add(change.path)
                if change.whole_tree:
                    found._trees.append(f"{change.path}/" if change.path else "")
                await slices.next()
        return found

    def nodes(self, tree: Tree) -> list[tuple[str, Node]]:
        """Return the nodes that the older version has at such paths, the innermost first."""
        if self._trees:
            based = ((tree.base_path(number), node) for number, node in tree.nodes.items() if node is not tree.root)
            found = [(path, node) for path, node in based if path is not None and self._holds(path)]
        else:
            found = [(path, node) for path in self._paths if path and (node := tree.based_at(path)) is not None]
        return sorted(found, key=lambda pair: pair[0].count("/"), reverse=True)

    def _holds(self, path: str) -> bool:
        return path in self._paths or any(path.startswith(tree) for tree in self._trees)


def _rebase_node(workspace: Workspace, node: Node, there: _There) -> None:
    tree = workspace.tree
    if there.entry is None:
        is_staged = node.number in tree.dirty or node.children
        tree.rebase(node, None)
        if node.place is not None and is_staged:
            workspace.mark(node)
        elif node.place is not None:
            tree.take_out(node)
        return
    if tree.is_foreign(there.entry) or node.place is None:
        return  # who has open what was unlinked here goes on with what it was
    stat = stat_of(there.entry)
    is_changed = node.content is not None and node.content.is_dirty
    if node.number not in tree.dirty:
        node.adopt(stat)
    elif not is_changed:
        node.stat = stat
    if node.content is not None and not is_changed and there.file is not None:
        node.content.rebase(there.file)
