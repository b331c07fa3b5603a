"""What programs did to files, and what may be found of it: in a version, after a kill, after a power failure.

The rules: a version holds what there was at one moment. After a kill every name is as it was done, and of a file's
bytes all that was there when it was last closed or synced; after a power failure all that was there at the last sync.
What came later may be there, each byte for itself.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .history import History, Ticks

NEVER = math.inf
Place = tuple[int, str]
"""A folder's number, and a name in it."""
Tree = Mapping[str, object]
"""What is found, by path: None for a folder, or a file's bytes."""


@dataclass(eq=False)
class File:
    """One file, whatever its name is."""

    content: History[bytes]
    flushed: int = 0
    """The first of its values that the next process must know, or a later one."""
    synced: int = 0
    """The first of its values that a power failure must leave, or a later one."""

    @property
    def last(self) -> int:
        """The last of its values that it surely has: the change to it has come to its end."""
        values = self.content.values
        return next(index for index in reversed(range(len(values))) if values[index].ends < NEVER)


@dataclass(eq=False)
class Program:
    """One program. Its files are those whose names begin with its own."""

    name: str
    places: History[Mapping[Place, File]]


@dataclass
class Promises:
    """All that was done, and what is promised of it."""

    root: int
    ticks: Ticks = field(default_factory=Ticks)
    programs: list[Program] = field(default_factory=list)
    folders: History[Mapping[int, Place]] = field(init=False)
    durable_since: float = 0
    """What names there were then a power failure leaves, or later ones."""

    def __post_init__(self) -> None:
        self.folders = History(self.ticks)
        self.folders.set({})

    def program(self, name: str) -> Program:
        places: History[Mapping[Place, File]] = History(self.ticks)
        places.set({})
        self.programs.append(Program(name, places))
        return self.programs[-1]

    def file(self) -> File:
        content: History[bytes] = History(self.ticks)
        content.set(b"")
        return File(content)

    def files(self) -> Iterator[File]:
        for program in self.programs:
            for value in program.places.values:
                yield from value.value.values()

    def path(self, folders: Mapping[int, Place], place: Place) -> str:
        number, name = place
        while number != self.root:
            number, above = folders[number]
            name = f"{above}/{name}"
        return name

    def newest(self) -> dict[str, object]:
        """Return everything as it is now that nothing is being done."""
        folders = self.folders.newest
        found: dict[str, object] = {self.path(folders, place): None for place in folders.values()}
        for program in self.programs:
            for place, file in program.places.newest.items():
                found[self.path(folders, place)] = file.content.newest
        return found

    def check_version(self, tree: Tree, first: int, last: int) -> None:
        """Assert that a version is what there was at one moment from ``first`` to ``last``."""
        closest: list[str] | None = None
        for moment in range(first, last + 1):
            wrong = self._differences(tree, moment, moment, None)
            if not wrong:
                return
            if closest is None or len(wrong) < len(closest):
                closest = wrong
        raise AssertionError(
            f"a version is of no moment between {first} and {last}; nearest to one, it has:\n"
            + "\n".join(closest or [])
        )

    def check_left(self, tree: Tree, since: float, at: float, lowest: Mapping[File, int]) -> None:
        """Assert that what is found after a failure at ``at`` has the names of ``since`` or later, and every byte that
        is the same in all of a file's values from ``lowest`` on."""
        wrong = self._differences(tree, since, at, lowest)
        if wrong:
            raise AssertionError(f"left of what was done from {since} to {at}:\n" + "\n".join(wrong))

    def _differences(self, tree: Tree, first: float, last: float, lowest: Mapping[File, int] | None) -> list[str]:
        """Return what is wrong in the best way to read ``tree``; nothing when it is right."""
        best: list[str] | None = None
        for folders in self.folders.seen(first, last):
            wrong = []
            expected = {self.path(folders, place) for place in folders.values()}
            there = {path for path, content in tree.items() if content is None}
            wrong += [f"  folder {path!r} is missing" for path in sorted(expected - there)]
            wrong += [f"  folder {path!r} should not be" for path in sorted(there - expected)]
            for program in self.programs:
                found = {
                    path: content
                    for path, content in tree.items()
                    if content is not None and path.rpartition("/")[2].startswith(program.name)
                }
                wrong += min(
                    (
                        self._wrong_files(found, folders, places, first, last, lowest)
                        for places in program.places.seen(first, last)
                    ),
                    key=len,
                )
            if not wrong:
                return wrong
            if best is None or len(wrong) < len(best):
                best = wrong
        return best or ["  nothing was there at all"]

    def _wrong_files(
        self,
        found: Tree,
        folders: Mapping[int, Place],
        places: Mapping[Place, File],
        first: float,
        last: float,
        lowest: Mapping[File, int] | None,
    ) -> list[str]:
        files = {
            self.path(folders, place): file for place, file in places.items() if _is_there(folders, place, self.root)
        }
        wrong = [f"  {path!r} is missing" for path in sorted(files.keys() - found.keys())]
        wrong += [f"  {path!r} should not be" for path in sorted(found.keys() - files.keys())]
        for path in sorted(files.keys() & found.keys()):
            file, content = files[path], found[path]
            assert isinstance(content, bytes)
            if lowest is None:
                seen = file.content.seen(first, last)
                if content not in seen:
                    wrong.append(f"  {path!r} is {content!r}, not any of {seen}")
            else:
                values = [value.value for value in file.content.values[lowest.get(file, 0) :] if value.begins <= last]
                reason = _not_left_of(values, content)
                if reason:
                    wrong.append(f"  {path!r} {reason}")
        return wrong


def _is_there(folders: Mapping[int, Place], place: Place, root: int) -> bool:
    return place[0] == root or place[0] in folders


def _not_left_of(values: list[bytes], content: bytes) -> str | None:
    """Tell why ``content`` cannot be what is left of a file that had these values since it was last made safe."""
    sizes = [len(value) for value in values]
    if not values or not min(sizes) <= len(content) <= max(sizes):
        return f"has {len(content)} bytes, where {sizes} were"
    for position in range(min([*sizes, len(content)])):
        bytes_there = {value[position] for value in values}
        if len(bytes_there) == 1 and content[position] not in bytes_there:
            return f"is {content!r}: byte {position} is none of any of {values}"
    return None
