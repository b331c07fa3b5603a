"""A drive does what a plain dict of paths would, over random operations, batches, reopening and old versions.

The model: files, links and made directories by path; a directory is there if it was made or something is below it.
"""

import copy
import errno
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfs.drive import names
from hyperfs.drive.batch import Batch
from hyperfs.drive.changes import Change, Kind, changes, differences
from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.writer import DriveWriter
from hyperfs.errors import PathError
from tests.support.drives import new_drive

Thing = tuple[str, bytes]
"""``("file", content)``, ``("link", target)`` or ``("dir", b"")``, the last for a directory that was made."""


@dataclass
class Model:
    """What a drive should hold."""

    things: dict[str, Thing] = field(default_factory=dict)

    def kind(self, path: str) -> str | None:
        if path in self.things:
            return self.things[path][0]
        return "dir" if not path or self.below(path) else None

    def below(self, path: str) -> list[str]:
        return [other for other in self.things if other.startswith(f"{path}/") or not path]

    def refuse_below_files(self, path: str) -> None:
        if any(self.kind(above) not in (None, "dir") for above in names.ancestors(path)):
            raise OSError(errno.ENOTDIR, path)

    def put_file(self, path: str, content: bytes) -> None:
        self.refuse_below_files(path)
        if self.kind(path) == "dir":
            raise OSError(errno.EISDIR, path)
        self.things[path] = ("file", content)

    def symlink(self, path: str, target: str) -> None:
        self.refuse_below_files(path)
        if self.kind(path) is not None:
            raise OSError(errno.EEXIST, path)
        self.things[path] = ("link", target.encode())

    def make_directory(self, path: str) -> None:
        self.refuse_below_files(path)
        if path in self.things:
            raise OSError(errno.EEXIST, path)
        self.things[path] = ("dir", b"")

    def delete(self, path: str) -> None:
        self.refuse_below_files(path)
        if self.kind(path) is None:
            raise OSError(errno.ENOENT, path)
        if self.below(path):
            raise OSError(errno.ENOTEMPTY, path)
        del self.things[path]

    def delete_tree(self, path: str) -> None:
        self.refuse_below_files(path)
        if self.kind(path) is None:
            raise OSError(errno.ENOENT, path)
        for below in [path, *self.below(path)]:
            self.things.pop(below, None)

    def rename(self, old: str, new: str) -> None:
        self.refuse_below_files(old)
        self.refuse_below_files(new)
        if self.kind(old) is None:
            raise OSError(errno.ENOENT, old)
        if old == new:
            return
        if new.startswith(f"{old}/"):
            raise OSError(errno.EINVAL, old)
        if self.kind(new) is not None:
            if self.kind(new) == "dir" and self.kind(old) != "dir":
                raise OSError(errno.EISDIR, new)
            if self.kind(old) == "dir" and self.kind(new) != "dir":
                raise OSError(errno.ENOTDIR, new)
            self.delete(new)
        for below in [old, *self.below(old)]:
            if below in self.things:
                self.things[new + below[len(old) :]] = self.things.pop(below)

    def paths(self) -> set[str]:
        return {above for path in self.things for above in names.ancestors(path)} | set(self.things)


NAMES = st.sampled_from(["a", "b", "c", "é", "long name " * 5])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
CONTENTS = st.binary(max_size=40)
OPERATIONS = st.one_of(
    st.tuples(st.just("put_file"), PATHS, CONTENTS),
    st.tuples(st.just("put_file"), PATHS, CONTENTS),
    st.tuples(st.just("symlink"), PATHS, st.sampled_from(["a", "../b", "/c"])),
    st.tuples(st.just("make_directory"), PATHS),
    st.tuples(st.just("delete"), PATHS),
    st.tuples(st.just("delete_tree"), PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
)
STEPS = st.lists(
    st.one_of(
        OPERATIONS,
        OPERATIONS,
        st.tuples(st.just("batch"), st.lists(OPERATIONS, max_size=6)),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


async def shown(snapshot: Snapshot) -> dict[str, tuple[str, bytes, bool]]:
    found = {}
    async for entry in snapshot.walk():
        stat = entry.stat
        if entry.is_directory:
            found[entry.path] = ("dir", b"", entry.implied)
        elif stat.is_link:
            found[entry.path] = ("link", (stat.linkname or "").encode(), False)
        else:
            found[entry.path] = ("file", await snapshot.read(entry, 0, stat.size), False)
        assert await snapshot.stat(entry.path) == entry
    return found


def expected(model: Model) -> dict[str, tuple[str, bytes, bool]]:
    return {path: (*model.things.get(path, ("dir", b"")), path not in model.things) for path in model.paths()}


async def do(target: DriveWriter | Batch, model: Model, operation: tuple[Any, ...]) -> None:
    """Do an operation on both; either both refuse it with the same errno or neither does."""
    name, *arguments = operation
    trial = copy.deepcopy(model)
    expected_errno = errno_of_failure = None
    try:
        getattr(trial, name)(*arguments)
    except OSError as error:
        expected_errno = error.errno
    try:
        await getattr(target, name)(*arguments)
    except PathError as error:
        errno_of_failure = error.errno
    assert errno_of_failure == expected_errno, operation
    if expected_errno is None:
        model.things = trial.things


@settings(max_examples=120)
@given(STEPS)
async def test_a_drive_is_a_dict_of_paths(steps: list[tuple[Any, ...]]) -> None:
    own = await new_drive()
    writer = own.writer
    model = Model()
    past: dict[int, dict[str, tuple[str, bytes, bool]]] = {1: {}}
    for step in steps:
        if step[0] == "reopen":
            writer = DriveWriter(await Drive.open(own.cores, own.drive.key), own.committer, clock=lambda: 5)
        elif step[0] == "batch":
            async with writer.batch() as batch:
                for operation in step[1]:
                    await do(batch, model, operation)
        else:
            await do(writer, model, step)
        past[writer.drive.version] = expected(model)
        assert await shown(writer.drive.snapshot()) == expected(model)
    for version, content in past.items():
        pinned = await Drive.open(own.cores, own.drive.key, version=version)
        assert await shown(pinned.snapshot()) == content


def told_kind(path: str, before: dict[str, Any], after: dict[str, Any]) -> Kind:
    return Kind.CHANGED if path in before and path in after else Kind.NEW if path in after else Kind.GONE


def is_told(path: str, told: dict[str, Change]) -> bool:
    return path in told or any(told[above].whole_tree for above in names.ancestors(path) if above in told)


@settings(max_examples=120)
@given(st.lists(OPERATIONS, max_size=12), st.lists(OPERATIONS, max_size=8))
async def test_changes_name_exactly_what_differs(first: list[tuple[Any, ...]], then: list[tuple[Any, ...]]) -> None:
    own = await new_drive()
    model = Model()
    times = iter(range(1, 10_000))
    writer = DriveWriter(own.drive, own.committer, clock=lambda: next(times))
    for operation in first:
        await do(writer, model, operation)
    older = own.drive.snapshot()
    for operation in then:
        await do(writer, model, operation)
    newer = own.drive.snapshot()
    told = {change.path: change async for change in changes(newer, older)}
    before = {entry.path: entry async for entry in older.walk()}
    after = {entry.path: entry async for entry in newer.walk()}
    for path in before.keys() | after.keys():
        one, other = before.get(path), after.get(path)
        if one is None or other is None or one.stat != other.stat:
            assert is_told(path, told), path
    for path, change in told.items():
        if change.kind in (Kind.NEW, Kind.GONE):
            assert change.kind is told_kind(path, before, after)
        elif change.kind is Kind.CHANGED and path and not change.whole_tree:
            assert (before[path].stat, before[path].value) != (after[path].stat, after[path].value)


@settings(max_examples=60)
@given(st.lists(OPERATIONS, max_size=12), st.lists(OPERATIONS, max_size=8))
async def test_differences_are_between_nodes(first: list[tuple[Any, ...]], then: list[tuple[Any, ...]]) -> None:
    own = await new_drive()
    model = Model()
    for operation in first:
        await do(own.writer, model, operation)
    older, before = own.drive.snapshot(), dict(model.things)
    for operation in then:
        await do(own.writer, model, operation)
    told = {item.path: item.kind async for item in differences(own.drive.snapshot(), older)}
    certain = set(before.keys() ^ model.things.keys())
    certain |= {path for path in before.keys() & model.things.keys() if before[path][0] != model.things[path][0]}
    assert certain <= told.keys() <= before.keys() | model.things.keys()


IN_A_DRIVE = st.tuples(st.integers(0, 2), OPERATIONS)


@settings(max_examples=60)
@given(st.lists(IN_A_DRIVE, max_size=12), st.lists(IN_A_DRIVE, max_size=8), st.booleans())
async def test_mounted_drives_show_theirs_two_levels_deep(
    first: list[tuple[int, tuple[Any, ...]]], then: list[tuple[int, tuple[Any, ...]]], pin_the_middle: bool
) -> None:
    outer = await new_drive()
    middle, inner = await new_drive(outer.cores), await new_drive(outer.cores)
    drives = [outer, middle, inner]
    models = [Model(), Model(), Model()]
    for number, operation in first:
        await do(drives[number].writer, models[number], operation)
    # Names that no operation uses, so that nothing gets into a mount's way.
    await middle.writer.mount("live", inner.drive.key)
    await middle.writer.mount("old", inner.drive.key, version=inner.drive.version)
    await outer.writer.mount("m", middle.drive.key, version=middle.drive.version if pin_the_middle else None)
    pinned_inner, pinned_middle = expected(models[2]), expected(models[1])
    checkout = await Drive.open(outer.cores, outer.drive.key, version=outer.drive.version)
    pinned_outer = expected(models[0])
    await outer.drive.snapshot().stat("m")
    for number, operation in then:
        await do(drives[number].writer, models[number], operation)

    def composed(of_outer: dict[str, Any]) -> dict[str, Any]:
        of_middle = pinned_middle if pin_the_middle else expected(models[1])
        found = dict(of_outer)
        found["m"] = found["m/live"] = found["m/old"] = ("dir", b"", False)
        found |= {f"m/{path}": thing for path, thing in of_middle.items()}
        found |= {f"m/live/{path}": thing for path, thing in expected(models[2]).items()}
        return found | {f"m/old/{path}": thing for path, thing in pinned_inner.items()}

    assert await shown(outer.drive.snapshot()) == composed(expected(models[0]))
    assert await shown(checkout.snapshot()) == composed(pinned_outer)
