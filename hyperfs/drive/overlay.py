"""What a batch has changed so far, laid over the version that it began with.

The rule: asking about one path costs no more because the batch has changed many others.
"""

from collections.abc import Iterator

from hyperfs.drive import names
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat
from hyperfs.trie import Node


class Overlay:
    """Paths that were put or deleted, each with its Stat or None, over a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._stats: dict[str, Stat | None] = {}
        self._names: dict[str, list[str]] = {}
        """The names in each directory that were changed, or lead to what was."""
        self._puts_below: dict[str, int] = {}
        self._walks: dict[str, _Walk] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._stats

    def __getitem__(self, path: str) -> Stat | None:
        return self._stats[path]

    def set(self, path: str, stat: Stat | None) -> None:
        """Note that ``path`` was put, or, with None, deleted."""
        change = (stat is not None) - (self._stats.get(path) is not None)
        is_known = path in self._stats or path in self._names
        self._stats[path] = stat
        for above in reversed(names.ancestors(path)):
            if change:
                self._puts_below[above] = self._puts_below.get(above, 0) + change
            if not is_known:
                is_known = above in self._stats or above in self._names
                self._names.setdefault(above, []).append(path[len(above) + 1 :].partition("/")[0])
            elif not change:
                break

    def has_new_below(self, path: str) -> bool:
        """Tell whether something that was put is below ``path``, not the root."""
        return self._puts_below.get(path, 0) > 0

    async def has_any_below(self, path: str) -> bool:
        """Tell whether anything is below ``path``, put or there before."""
        if self.has_new_below(path):
            return True
        walk = self._walks.get(path)
        if walk is None:
            walk = self._walks[path] = _Walk(self._snapshot, path)
        return await walk.finds_one_left(self._stats)

    def at_and_below(self, path: str) -> Iterator[tuple[str, Stat | None]]:
        """Yield what was changed at ``path``, not the root, and below it."""
        waiting = [path]
        while waiting:
            here = waiting.pop()
            if here in self._stats:
                yield here, self._stats[here]
            waiting += [names.join(here, name) for name in self._names.get(here, ())]


class _Walk:
    """Looks for a node below a path that a batch has not deleted, each time from where it found the last one.

    What it has passed was deleted; if it is put again meanwhile, it counts as new.
    """

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        self._nodes = snapshot.trie.iterate(path, gt=True)
        self._node: Node | None = None
        self._is_over = False

    async def finds_one_left(self, stats: dict[str, Stat | None]) -> bool:
        while not self._is_over:
            if self._node is not None and stats.get(names.normalise(self._node.key), True) is not None:
                return True
            self._node = await anext(self._nodes, None)
            self._is_over = self._node is None
        return False
