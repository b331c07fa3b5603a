"""Appending, telling listeners, syncing."""

from pathlib import Path

import pytest
import trio

from hyperfs.core.core import Core
from hyperfs.core.proofs import MAX_BLOCK_BYTES
from hyperfs.errors import ConflictingLength, NotWritable, StoreLocked
from hyperfs.storage import DiskDirectory, MemoryDirectory
from hyperfs.storage.memory import MemoryFile
from tests.support.cores import KEYS, bring, reader, writer
from tests.support.crashes import RecordingDirectory


class Listener:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def extended(self, core: Core, old_length: int, new_length: int) -> None:
        self.heard.append(("extended", old_length, new_length))

    def stored(self, core: Core, start: int, end: int, origin: object) -> None:
        self.heard.append(("stored", start, end, origin))

    def cleared(self, core: Core, start: int, end: int) -> None:
        self.heard.append(("cleared", start, end))

    def durable(self, core: Core, length: int) -> None:
        self.heard.append(("durable", length))


async def test_append_returns_the_first_index() -> None:
    core = await writer([b"a"])
    assert (await core.append([b"b", b"c"]), await core.append([]), core.length) == (1, 3, 3)


async def test_an_append_at_the_expected_length_is_made() -> None:
    core = await writer([b"a"])
    assert await core.append([b"b"], expected_length=1) == 1


async def test_an_append_at_another_length_is_refused() -> None:
    core = await writer([b"a"])
    with pytest.raises(ConflictingLength, match="1 blocks, not the expected 0"):
        await core.append([b"b"], expected_length=0)
    assert core.length == 1


async def test_a_reader_cannot_append() -> None:
    with pytest.raises(NotWritable):
        await (await reader()).append([b"a"])


async def test_a_block_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="are allowed"):
        await (await writer()).append([bytes(MAX_BLOCK_BYTES + 1)])


async def test_large_appends_are_read_back() -> None:
    blocks = [bytes([index]) * 300_000 for index in range(5)]
    core = await writer(blocks)
    assert [await core.get(index) for index in range(5)] == blocks
    assert await core.audit() == []


async def test_appends_at_once_do_not_mix() -> None:
    core = await writer()
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(core.append, [bytes([number]) * 100_000] * 5)
    assert [len({await core.get(index) for index in range(start, start + 5)}) for start in range(0, 40, 5)] == [1] * 8
    assert await core.audit() == []


async def test_listeners_hear_an_append_and_when_it_is_durable() -> None:
    core, listener = await writer([b"a"]), Listener()
    core.add_listener(listener)
    await core.append([b"b", b"c"])
    await core.sync()
    assert listener.heard == [("extended", 1, 3), ("stored", 1, 3, None), ("durable", 3)]


async def test_listeners_hear_what_was_brought_and_by_whom() -> None:
    source, target, listener = await writer([b"a"] * 5), await reader(), Listener()
    target.add_listener(listener)
    await bring(source, target, [3])
    assert listener.heard == [("extended", 0, 5), ("stored", 3, 4, source)]


async def test_listeners_hear_of_a_clear() -> None:
    core, listener = await writer([b"a"] * 5), Listener()
    await core.sync()
    core.add_listener(listener)
    await core.clear(1, 3)
    core.remove_listener(listener)
    await core.append([b"b"])
    assert listener.heard == [("cleared", 1, 3)]


async def test_the_order_on_disk_is_data_and_tree_then_signature_then_bitfield() -> None:
    directory = RecordingDirectory()
    core = await Core.open(directory, key_pair=KEYS)
    del directory.operations[:]
    await core.append([b"a", b"b"])
    await core.sync()
    steps = [(o.name, o.content is None) for o in directory.operations]
    assert steps[-6:] == [
        ("data", True),
        ("tree", True),
        ("signatures", False),
        ("signatures", True),
        ("bitfield", False),
        ("bitfield", True),
    ]


async def test_a_sync_that_fails_is_made_up_for_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = MemoryDirectory()
    core = await Core.open(directory, key_pair=KEYS)
    await core.append([b"a"])
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFile, "sync", lambda self: (_ for _ in ()).throw(OSError(28, "no space")))
        with pytest.raises(OSError, match="no space"):
            await core.sync()
    assert (core.dirty, core.durable_length) == (True, 0)
    await core.sync()
    assert (core.dirty, core.durable_length) == (False, 1)


@pytest.mark.parametrize("size", [1, 300_000])
async def test_an_append_to_a_full_disk_appends_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    core = await writer([b"a"])
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFile, "write", lambda *arguments: (_ for _ in ()).throw(OSError(28, "no space")))
        with pytest.raises(OSError, match="no space"):
            await core.append([b"b" * size])
    assert core.length == 1
    assert await core.append([b"c"]) == 1
    assert await core.audit() == []


async def test_a_core_in_use_is_refused(tmp_path: Path) -> None:
    core = await writer(directory=DiskDirectory(tmp_path))
    with pytest.raises(StoreLocked, match="bitfield is in use by process"):
        await Core.open(DiskDirectory(tmp_path))
    await core.close()


async def test_a_closed_core_is_free(tmp_path: Path) -> None:
    await (await writer([b"a"], directory=DiskDirectory(tmp_path))).close()
    core = await Core.open(DiskDirectory(tmp_path))
    assert core.get_local(0) == b"a"
    await core.close()


async def test_the_secret_key_is_its_users_alone(tmp_path: Path) -> None:
    await (await writer(directory=DiskDirectory(tmp_path))).close()
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


async def test_cancelling_an_append_leaves_all_or_nothing() -> None:
    core = await writer([b"a"])
    with trio.CancelScope() as scope:
        scope.cancel()
        await core.append([b"b" * 300_000] * 3)
    assert core.length in (1, 4)
    assert await core.audit() == []
    await core.append([b"c"])
    assert await core.audit() == []
