"""Reading a core: blocks, batches, places of bytes, proofs, and what is not here."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import hyperfs
from hyperfs.crypto import key_pair
from hyperfs.errors import BlockNotAvailable, EncodingError, TimedOut, UsageError
from hyperfs.library.core import AuditReport

KEYS = key_pair(b"read".ljust(32))


async def test_blocks_come_one_or_many_at_a_time() -> None:
    async with hyperfs.open_core(hyperfs.memory(), value_encoding="utf-8") as core:
        await core.append(["a", "be", "cee", "d"])
        assert await core.get(1) == "be"
        assert await core.get_batch(0, 4) == ["a", "be", "cee", "d"]
        assert await core.get_batch(2, 4) == ["cee", "d"]
        assert await core.get_batch(1, 1) == []
        assert await core.head() == "d"


async def test_what_is_here_is_counted() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append([b"a", b"b", b"c"])
        await core.clear(1)
        assert (core.has(0), core.has(1), core.has(0, 3), core.has(2, 3), core.has(3)) == (
            True,
            False,
            False,
            True,
            False,
        )
        assert (core.downloaded(), core.downloaded(1), core.downloaded(0, 1), core.downloaded(5)) == (2, 1, 1, 0)
        await core.clear(0, 3)
        assert core.downloaded() == 0


async def test_a_block_that_is_to_come_is_waited_for() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core, trio.open_nursery() as nursery:
        nursery.start_soon(core.append, [b"a", b"b"])
        assert await core.get(1) == b"b"


async def test_without_waiting_what_is_not_here_is_refused() -> None:
    async with hyperfs.open_core(hyperfs.memory(), KEYS.public) as core:
        with pytest.raises(BlockNotAvailable, match="block 3"):
            await core.get(3, wait=False)
        with pytest.raises(BlockNotAvailable):
            await core.get_batch(0, 2, wait=False)
        with pytest.raises(BlockNotAvailable):
            await core.seek(1, wait=False)


async def test_a_wait_ends_in_time(autojump_clock: MockClock) -> None:
    async with hyperfs.open_core(hyperfs.memory(), KEYS.public) as core:
        for wait in (
            core.get(3, timeout=2),
            core.get_batch(0, 2, timeout=2),
            core.seek(9, timeout=2),
            core.update(timeout=2),
        ):
            began = trio.current_time()
            with pytest.raises(TimedOut, match="within 2 s"):
                await wait
            assert trio.current_time() - began == pytest.approx(2)


async def test_a_wait_that_was_cancelled_asks_for_nothing_more() -> None:
    async with hyperfs.open_core(hyperfs.memory(), KEYS.public) as core:
        with trio.CancelScope() as scope:
            scope.cancel()
            await core.get(3)
        assert list(core._exchange.demands) == [core._exchange.everything]


async def test_a_byte_is_found() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append(["hello", "how", "are", "you", "doing", "?"])
        found = [await core.seek(offset) for offset in (0, 4, 5, 9, 16, 19, 20)]
        assert found == [(0, 0), (0, 4), (1, 0), (2, 1), (4, 2), (5, 0), (6, 0)]
        with pytest.raises(ValueError, match="-1"):
            await core.seek(-1)


async def test_a_byte_that_is_to_come_is_waited_for() -> None:
    found = []

    async def seek(core: hyperfs.OpenCore, offset: int) -> None:
        found.append(await core.seek(offset))

    async with hyperfs.open_core(hyperfs.memory()) as core, trio.open_nursery() as nursery:
        nursery.start_soon(seek, core, 9)
        nursery.start_soon(seek, core, 16)
        await trio.testing.wait_all_tasks_blocked()
        await core.append("hello")
        await core.append(["how", "are", "you", "doing", "?"])
    assert sorted(found) == [(2, 1), (4, 2)]


async def test_an_update_waits_for_a_length() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        assert await core.update(0)
        assert not await core.update(if_available=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.update, 3)
            for _ in range(3):
                await core.append(b"x")
        assert core.length == 3


async def test_a_signature_covers_the_blocks_before_it() -> None:
    async with hyperfs.open_core(hyperfs.memory(), key_pair=KEYS) as core:
        await core.append([b"a", b"b", b"c"])
        pending = await core.signature(0)
        await core.sync()
        await core.append(b"d")
        assert pending.index == 2
        assert await core.signature(0) == await core.signature(2) == pending
        assert (await core.signature()).index == 3
        assert await core.verify(2, pending.signature)
        assert not await core.verify(1, pending.signature)
        assert not await core.verify(3, pending.signature)
        with pytest.raises(BlockNotAvailable):
            await core.signature(4)
        with pytest.raises(BlockNotAvailable):
            await core.verify(4, pending.signature)


async def test_a_signature_of_another_history_is_none_of_this_one() -> None:
    async with (
        hyperfs.open_core(hyperfs.memory(), key_pair=KEYS) as core,
        hyperfs.open_core(hyperfs.memory(), key_pair=KEYS) as evil,
    ):
        await core.append("test")
        await evil.append("t\0st")
        signature = (await core.signature(0)).signature
        assert (await core.verify(0, signature), await evil.verify(0, signature)) == (True, False)
        ours, theirs = await core.root_hashes(0), await evil.root_hashes(0)
        assert (len(ours), ours[0].tree_index, ours[0].size) == (len(theirs), 0, 4)
        assert ours[0].hash != theirs[0].hash


async def test_an_audit_forgets_what_is_damaged() -> None:
    storage = hyperfs.memory()
    async with hyperfs.open_core(storage) as core:
        await core.append([b"hello", b"world"])
        assert await core.audit() == AuditReport(2, 0, ())
        storage.open("data").write(0, b"H")
        assert await core.audit() == AuditReport(1, 1, (0,))
        assert not core.has(0)
        assert await core.audit() == AuditReport(1, 0, ())


async def test_values_are_encoded_as_the_reference_does() -> None:
    async with hyperfs.open_core(hyperfs.memory(), value_encoding="json") as core:
        await core.append({"hello": "world"})
        await core.append([{"hello": "verden"}, {"hello": "welt"}])
        assert (core.length, core.byte_length) == (3, 54)
        assert await core.get(0) == {"hello": "world"}
        assert await core.get(2, value_encoding="utf-8") == '{"hello":"welt"}\n'
        assert await core.head(value_encoding="binary") == b'{"hello":"welt"}\n'
        await core.append([["a", "list"], "blåbær"])
        assert await core.get_batch(3, 5) == [["a", "list"], "blåbær"]


async def test_a_program_brings_its_own_encoding() -> None:
    class Reversed:
        def encode(self, value: str) -> bytes:
            return value[::-1].encode()

        def decode(self, block: bytes) -> str:
            return block.decode()[::-1]

    async with hyperfs.open_core(hyperfs.memory(), value_encoding=Reversed()) as core:
        await core.append("abc")
        assert (await core.get(0), await core.get(0, value_encoding="binary")) == ("abc", b"cba")


async def test_what_cannot_be_encoded_or_decoded_is_refused() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        with pytest.raises(TypeError, match="choose a value_encoding"):
            await core.append({"a": 1})
        with pytest.raises(TypeError):
            await core.append([b"good", 3])
        assert core.length == 0
        await core.append(b"\xff{")
        for encoding in ("utf-8", "json"):
            with pytest.raises(EncodingError):
                await core.get(0, value_encoding=encoding)
        with pytest.raises(UsageError, match="no value encoding"):
            await core.get(0, value_encoding="utf-16")
    async with hyperfs.open_core(hyperfs.memory(), value_encoding="json") as core:
        with pytest.raises(ValueError, match="JSON"):
            await core.append(float("nan"))
