"""What the log of a drive says: what a comparison of each version with the one before would, without comparing them."""

from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfs.drive.changes import Kind
from hyperfs.drive.drive import Drive
from hyperfs.drive.history import LogEntry, compared, history
from hyperfs.drive.stat import MountTarget, Stat, encode_stat
from hyperfs.errors import DamagedTrie
from hyperfs.trie import Delete, DeleteTree, Header, NodeCache, Operation, Put, Trie, encode_batch
from hyperfs.trie.paths import Hashing, PartHash, part_hash
from tests.support.drives import new_drive
from tests.support.memory_core import MemoryCores

FILE = Stat(0o100644)


def one_bit_hash(part: bytes) -> int:
    """Make half of all parts collide."""
    return sum(part) & 1


names = st.sampled_from(["a", "b", "c", "d"])
paths = st.builds(
    lambda before, parts, behind: before + "/".join(parts) + behind,
    st.sampled_from(["", "", "", "/"]),
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from(["", "", "", "/"]),
)
hidden_paths = st.builds("{}/{}".format, st.sampled_from(["tags", "mounts", "x"]), names)
stats = st.sampled_from([FILE, replace(FILE, ctime=1), replace(FILE, mount=MountTarget(bytes(32)))]).map(encode_stat)
values = stats | stats | st.sampled_from([None, b"", b"\5", b"\xff"])
puts = st.builds(Put, paths, values, flags=st.sampled_from([0, 0, 1]))
hidden_puts = st.builds(Put, hidden_paths, values, hidden=st.just(True))
deletions = st.builds(Delete, paths) | st.builds(DeleteTree, paths)
operations = st.one_of(puts, puts, puts, hidden_puts, deletions, st.builds(Delete, hidden_paths, hidden=st.just(True)))


async def drive_after(done: list[Operation], hashing: Hashing) -> tuple[Drive, MemoryCores]:
    """Return a drive to which this was done, some of which no well-behaved writer does, and its cores."""
    cores = MemoryCores()
    core = cores.create()
    await core.append([Header(cores.create().key, "hyperdrive").encode()])
    await core.append(await encode_batch(Trie(core, 1, NodeCache(hashing=hashing)), done))
    return await Drive.open(cores, core.key, cache=NodeCache(hashing=hashing)), cores


async def told_by_comparing(drive: Drive) -> list[LogEntry]:
    tries = [drive.snapshot().trie.checkout(version) for version in range(drive.version, 0, -1)]
    return [await compared(newer, older) for newer, older in pairwise(tries)]


@settings(max_examples=150)
@given(
    st.lists(operations, max_size=40),
    st.sampled_from([part_hash, one_bit_hash]),
    st.sampled_from([0, 10, 1000]),
    st.none() | st.integers(1, 40),
)
async def test_the_log_says_what_comparing_does(
    done: list[Operation], hash_part: PartHash, held: int, limit: int | None
) -> None:
    drive, _ = await drive_after(done, Hashing(hash_part))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperfs.drive.history.HELD_VERSIONS", held)
        told = [entry async for entry in history(drive.snapshot(), limit=limit)]
    assert told == (await told_by_comparing(drive))[:limit]


async def test_the_log_of_a_drive_that_is_far_away_says_the_same() -> None:
    done: list[Operation] = [
        *[Put(f"d{number % 3}/f{number % 40}", encode_stat(replace(FILE, ctime=number))) for number in range(60)],
        Delete("d1/f1"),
        *[Put(f"d{number % 3}/f{number % 70}", encode_stat(replace(FILE, ctime=number))) for number in range(60, 120)],
    ]
    drive, cores = await drive_after(done, Hashing())
    expected = await told_by_comparing(drive)
    core = cores.cores[drive.key]
    core.take_away(*range(1, 121))
    core.is_far = True
    far = await Drive.open(cores, core.key)
    assert [entry async for entry in history(far.snapshot())] == expected


async def test_damage_is_told_of_only_when_the_log_comes_to_it() -> None:
    drive, cores = await drive_after([Put(name, encode_stat(FILE)) for name in "abcdefgh"], Hashing())
    cores.cores[drive.key].blocks[2] = b"\xff"
    async with aclosing(history(drive.snapshot())) as log:
        assert [(await anext(log)).version for _ in range(5)] == [9, 8, 7, 6, 5]
        with pytest.raises(DamagedTrie):
            await anext(log)


async def test_the_log_tells_what_each_version_did() -> None:
    own = await new_drive()
    inner = await new_drive(own.cores)
    await own.writer.put_file("a", b"1")
    await own.writer.put_file("b", b"2")
    await own.writer.put_file("a", b"3")
    await own.writer.tag("t")
    await own.writer.delete("a")
    await own.writer.mount("m", inner.drive.key)
    await own.writer.delete_tag("t")
    entries = [entry async for entry in history(own.drive.snapshot())]
    assert [(entry.version, entry.action, entry.path, entry.kind) for entry in entries] == [
        (9, "untag", "t", Kind.GONE),
        (8, "mount", "m", Kind.NEW),
        (7, "mount", "m", Kind.NEW),
        (6, "delete", "a", Kind.GONE),
        (5, "tag", "t", Kind.NEW),
        (4, "put", "a", Kind.CHANGED),
        (3, "put", "b", Kind.NEW),
        (2, "put", "a", Kind.NEW),
    ]


async def test_the_log_tells_of_a_deleted_folder_once() -> None:
    own = await new_drive()
    await own.commit(*[Put(key, encode_stat(FILE)) for key in ("x", "t/u/a", "t/u/b/c", "t/u-", "t/u/b-d")])
    await own.writer.delete_tree("t/u")
    (entry,) = [entry async for entry in history(own.drive.snapshot(), limit=1)]
    assert (entry.action, entry.path, entry.kind) == ("delete", "t/u", Kind.GONE)


async def test_the_log_can_be_short() -> None:
    own = await new_drive()
    await own.commit(*[Put(key, encode_stat(FILE)) for key in ("a", "b", "c")])
    assert [entry.version async for entry in history(own.drive.snapshot(), limit=2)] == [4, 3]
