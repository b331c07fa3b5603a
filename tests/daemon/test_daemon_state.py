"""What a daemon remembers."""

import dataclasses
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from hyperfs.core.reserve import Reserve
from hyperfs.daemon.addresses import format_address, parse_address
from hyperfs.daemon.state import Edit, MountChoices, MountRecord, Served, State, StateKeeper, read_state
from hyperfs.errors import DamagedStore, UsageError
from hyperfs.storage.disk import replace_file

MOUNT = MountRecord("f0", "ab" * 32, 12, "/mnt/caf\udce9", "abab+12", MountChoices(umask=18), ("h:1",))


def with_peer(peer: str) -> Edit:
    return lambda state: dataclasses.replace(state, peers=(*state.peers, peer))


@asynccontextmanager
async def keeper_at(
    path: Path, on_change: Callable[[State, State], None] = lambda old, new: None, reserve: Reserve | None = None
) -> AsyncIterator[StateKeeper]:
    keeper = StateKeeper(path, read_state(path), on_change, reserve)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield keeper
        nursery.cancel_scope.cancel()


async def test_on_a_full_disk_the_state_is_saved_in_what_is_kept_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reserve = tmp_path / "state.json", Reserve(tmp_path / "reserve")
    await reserve.make()

    def replace_if_there_is_room(path: Path, content: bytes) -> None:
        if (tmp_path / "reserve").exists():
            raise OSError(errno.ENOSPC, "full")
        replace_file(path, content)

    monkeypatch.setattr("hyperfs.daemon.state.replace_file", replace_if_there_is_room)
    async with keeper_at(path, reserve=reserve) as keeper:
        await keeper.change(with_peer("h:1"))
    assert read_state(path).peers == ("h:1",)


def test_without_a_file_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.json") == State()


async def test_what_was_changed_is_read_again(tmp_path: Path) -> None:
    state = State((Served("cd" * 32, ("h:1", "h:2")),), (MOUNT,), ("p:3",), ("[::]:4",), 5)
    async with keeper_at(tmp_path / "state.json") as keeper:
        await keeper.change(lambda before: state)
    assert read_state(tmp_path / "state.json") == state


def test_a_state_of_the_version_before_is_read(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(
        """{"format": 1, "served": [{"key": "cd", "peers": []}], "peers": [], "listen": [], "mounts": [{"id": "f0",
        "key": "ab", "version": null, "mountpoint": "/mnt", "label": "ab", "peers": [], "options": {"uid": null,
        "gid": null, "umask": 18, "allow_other": false, "timeout_seconds": 30.0, "lookup_timeout_seconds": 5.0,
        "read_only": false, "flush_seconds": 5.0}}]}"""
    )
    (mount,) = read_state(tmp_path / "state.json").mounts
    assert mount.options == MountChoices(umask=18, timeout_seconds=30.0)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1, "served": 3}'])
def test_a_file_that_is_no_state_is_called_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(DamagedStore, match=r"state\.json"):
        read_state(tmp_path / "state.json")


async def test_changes_that_come_at_once_are_all_kept(tmp_path: Path) -> None:
    async with keeper_at(tmp_path / "state.json") as keeper, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(keeper.change, with_peer(f"p:{number}"))
    assert len(read_state(tmp_path / "state.json").peers) == 20


async def test_a_change_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    async with keeper_at(tmp_path / "state.json") as keeper:
        await keeper.change(with_peer("p:3"))
        (tmp_path / "state.json.new").mkdir()
        with pytest.raises(OSError, match=r"state\.json\.new"):
            await keeper.change(with_peer("p:4"))
        assert keeper.state.peers == read_state(tmp_path / "state.json").peers == ("p:3",)


async def test_what_follows_the_state_is_told_that_a_change_was_taken_back(tmp_path: Path) -> None:
    seen: list[tuple[str, ...]] = []
    async with keeper_at(tmp_path / "state.json", lambda old, new: seen.append(new.peers)) as keeper:
        (tmp_path / "state.json.new").mkdir()
        with pytest.raises(OSError, match=r"state\.json\.new"):
            await keeper.change(with_peer("p:4"))
    assert seen == [("p:4",), ()]


async def test_a_change_of_which_nobody_waits_for_the_end_is_kept(tmp_path: Path) -> None:
    async with keeper_at(tmp_path / "state.json") as keeper, trio.open_nursery() as nursery:
        nursery.start_soon(keeper.change, with_peer("p:3"))
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
        await keeper.change(with_peer("p:4"))
    assert read_state(tmp_path / "state.json").peers == keeper.state.peers
    assert "p:4" in keeper.state.peers


@pytest.mark.parametrize("text", ["host:3282", "192.0.2.7:0", "[2001:db8::7]:65535"])
def test_an_address_comes_back_as_it_was_written(text: str) -> None:
    assert format_address(*parse_address(text)) == text


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:x", "host:65536", "host:-1", "2001:db8::7:1", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)
