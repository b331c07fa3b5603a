"""What a daemon remembers."""

from pathlib import Path

import pytest

from hyperfs.daemon.addresses import format_address, parse_address
from hyperfs.daemon.state import MountRecord, Served, State, StateFile
from hyperfs.errors import DamagedStore, UsageError

MOUNT = MountRecord("f0", "ab" * 32, 12, "/mnt/caf\udce9", "abab+12", {"uid": None, "umask": 18}, ("h:1",))


def test_without_a_file_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "state.json").state == State()


def test_what_was_changed_is_read_again(tmp_path: Path) -> None:
    served = Served("cd" * 32, ("h:1", "h:2"))
    StateFile(tmp_path / "state.json").change(served=(served,), mounts=(MOUNT,), peers=("p:3",), listen=("[::]:4",))
    assert StateFile(tmp_path / "state.json").state == State((served,), (MOUNT,), ("p:3",), ("[::]:4",))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format": 1, "served": 3}'])
def test_a_file_that_is_no_state_is_called_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(DamagedStore, match=r"state\.json"):
        StateFile(tmp_path / "state.json")


def test_a_change_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    file.change(peers=("p:3",))
    (tmp_path / "state.new").mkdir()
    with pytest.raises(OSError, match=r"state\.new"):
        file.change(peers=())
    assert file.state.peers == StateFile(tmp_path / "state.json").state.peers == ("p:3",)


@pytest.mark.parametrize("text", ["host:3282", "192.0.2.7:0", "[2001:db8::7]:65535"])
def test_an_address_comes_back_as_it_was_written(text: str) -> None:
    assert format_address(*parse_address(text)) == text


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:x", "host:65536", "host:-1", "2001:db8::7:1", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)
