"""A writer and those who have more of its core than it has, or something else."""

import errno
import json
from pathlib import Path

import pytest

from hyperfs.core.core import Core
from hyperfs.core.proofs import Received, tree_covers
from hyperfs.core.store import Store, run_store
from hyperfs.errors import BlockNotAvailable, DamagedStore, Fork, InvalidProof, WriterBehind, WriterForked, errno_of
from hyperfs.storage import MemoryDirectory

from ..support.cores import KEYS, bring, reader, writer

BLOCKS = [b"block %d" % index * (index % 7) for index in range(37)]


async def proof_of(core: Core, index: int) -> Received:
    """Return the whole proof of a block of ``core``, without the block."""
    await core.sync()
    proof = await core.proof(index, digest=0, hash_only=True)
    return Received(index, None, proof.nodes, proof.signature)


async def reconcile(core: Core, other: Core, index: int) -> int:
    return await core.reconcile(await proof_of(other, index), origin=other, name="peer:1")


@pytest.mark.parametrize("length", [1, 2, 5, 8, 10, 31, 36])
async def test_a_writer_behind_takes_the_head_of_a_tree_that_holds_all_of_its_own(length: int) -> None:
    old, newer = await writer(BLOCKS[:length]), await writer(BLOCKS)
    assert await reconcile(old, newer, length - 1)
    assert old.length == 37
    assert old.fork_guard.awaited == range(length, 37)


async def test_a_writer_behind_refuses_to_append() -> None:
    old, newer = await writer(BLOCKS[:10]), await writer(BLOCKS)
    await reconcile(old, newer, 9)
    with pytest.raises(WriterBehind, match="27 of the 27 blocks from 10 on are still to be fetched"):
        await old.append([b"other"])


async def test_a_writer_that_caught_up_appends_what_others_can_verify() -> None:
    old, newer = await writer(BLOCKS[:10]), await writer(BLOCKS)
    await reconcile(old, newer, 9)
    await bring(newer, old, range(10, 37))
    assert await old.append([b"next"]) == 37
    await old.sync()
    target = await reader()
    await bring(newer, target, [36])
    await bring(old, target, [37])
    assert target.get_local(37) == b"next"


def test_a_program_may_try_again_when_a_writer_is_behind_and_not_when_it_is_forked() -> None:
    assert errno_of(WriterBehind("")) == errno.EAGAIN
    assert errno_of(WriterForked("")) == errno.EROFS


async def test_what_no_peer_has_may_be_left_out() -> None:
    old, newer = await writer(BLOCKS[:10]), await writer(BLOCKS)
    await reconcile(old, newer, 9)
    old.fork_guard.stop_awaiting()
    assert await old.append([b"next"]) == 37


async def test_a_head_that_may_not_hold_all_of_ours_is_not_taken_but_appending_is_refused() -> None:
    old, newer = await writer(BLOCKS[:10]), await writer(BLOCKS)
    assert not await reconcile(old, newer, 36)
    assert old.length == 10
    with pytest.raises(WriterBehind, match="37 blocks were signed, of which 10 are known here"):
        await old.append([b"other"])


async def test_an_older_tree_of_ours_changes_nothing() -> None:
    core, older = await writer(BLOCKS), await writer(BLOCKS[:10])
    assert await reconcile(core, older, 9) == 10
    assert await core.append([b"next"]) == 37


@pytest.mark.parametrize("other_length", [8, 10, 12, 37])
async def test_another_history_is_a_fork_even_when_the_block_is_the_same(other_length: int) -> None:
    core = await writer(BLOCKS[:10])
    other = await writer([*BLOCKS[:5], b"changed", *BLOCKS[6:other_length]])
    with pytest.raises(Fork, match="is forked"):
        await reconcile(core, other, min(10, other_length) - 1)
    assert core.length == 10


async def test_a_forked_writer_refuses_to_append_until_its_user_decides() -> None:
    core, other = await writer(BLOCKS[:10]), await writer([*BLOCKS[:9], b"changed"])
    with pytest.raises(Fork):
        await reconcile(core, other, 9)
    with pytest.raises(WriterForked, match="used in two places, and peer:1 has 10 blocks"):
        await core.append([b"next"])
    await core.fork_guard.accept_fork()
    assert await core.append([b"next"]) == 10


async def test_a_signature_of_somebody_else_is_no_fork() -> None:
    core, other = await writer(BLOCKS[:10]), await writer([b"changed"] * 10)
    item = (await proof_of(other, 9))._replace(signature=bytes(64))
    with pytest.raises(InvalidProof) as caught:
        await core.reconcile(item, origin=other, name="peer:1")
    assert not isinstance(caught.value, Fork)
    assert await core.append([b"next"]) == 10


async def test_a_writer_takes_nothing_past_its_length_unless_it_met_the_head() -> None:
    core, newer = await writer(BLOCKS[:10]), await writer(BLOCKS)
    await newer.sync()
    with pytest.raises(InvalidProof, match="past its 10"):
        await bring(newer, core, [36])
    assert core.length == 10


async def two_lives(store: Store) -> tuple[Core, Core]:
    """Return a core of ``store``, and one in memory with its key that has another history."""
    core = await store.create_core(b"twice")
    await core.append(BLOCKS[:10])
    await core.sync()
    return core, await writer([*BLOCKS[:9], b"changed"], keys=store.key_pair(b"twice"))


async def test_a_fork_is_still_known_after_a_restart(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core, other = await two_lives(store)
        with pytest.raises(Fork):
            await reconcile(core, other, 9)
    async with run_store(tmp_path) as store:
        core = await store.core(other.key)
        with pytest.raises(WriterForked):
            await core.append([b"next"])


async def test_a_known_longer_length_is_still_known_after_a_restart(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core, _ = await two_lives(store)
        await core.fork_guard.note_signed(12)
    async with run_store(tmp_path) as store:
        with pytest.raises(WriterBehind):
            await (await store.core(core.key)).append([b"next"])


async def test_a_damaged_note_is_not_taken_for_none(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core, _ = await two_lives(store)
        await core.fork_guard.note_signed(12)
        path = store.fork_guard_path(core.key)
    path.write_text("{")
    async with run_store(tmp_path) as store:
        with pytest.raises(DamagedStore, match="behind or forked"):
            await store.core(core.key)


@pytest.mark.parametrize("older", range(1, 24))
def test_a_whole_proof_of_the_last_block_or_the_next_covers_an_older_tree(older: int) -> None:
    assert all(tree_covers(older - 1, length, older) for length in range(older, 40))
    assert all(tree_covers(older, length, older) for length in range(older + 1, 40))


async def test_what_was_cleared_of_a_core_of_ours_is_said_to_be_pruned() -> None:
    core = await writer(BLOCKS)
    await core.clear(3, 5)
    with pytest.raises(BlockNotAvailable, match=r"block 4 of core .* was pruned from this store"):
        await core.get(4)


async def test_what_could_not_be_written_down_holds_and_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "guard.json"
    core = await Core.open(MemoryDirectory(), key_pair=KEYS, fork_guard_path=path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("hyperfs.core.fork_guard.replace_file", refuse)
        with pytest.raises(OSError, match="no space"):
            await core.fork_guard.note_signed(12)
    with pytest.raises(WriterBehind):
        await core.append([b"a"])
    await core.fork_guard.note_signed(12)
    assert json.loads(path.read_text())["signed_length"] == 12
