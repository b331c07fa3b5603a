"""Where the socket and the store are."""

import os
import socket
from pathlib import Path

import pytest

from hyperfs.daemon.locks import LockFile
from hyperfs.daemon.places import StagedDrive, default_store, places_of, refuse_overlap, socket_address
from hyperfs.errors import DaemonError, UsageError


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


def test_what_is_staged_is_found_with_who_commits_it(tmp_path: Path) -> None:
    places = places_of(tmp_path / "store")
    keys = [bytes([number]) * 32 for number in range(3)]
    for key in keys:
        places.staging(key).mkdir(parents=True)
        (places.staging(key) / "1.data").write_bytes(b"12345")
    for key in keys[:2]:
        (places.staging(key) / "1.journal").touch()
    (places.staging(keys[2]) / "set-aside/1").mkdir(parents=True)
    with LockFile(places.staging(keys[1]) / "lock") as lock:
        assert lock.try_take()
        assert places.staged() == (
            StagedDrive(keys[0].hex(), 5, None),
            StagedDrive(keys[1].hex(), 5, os.getpid()),
        )
        assert places.staged(keys[1]) == places.staged()[1:]
    assert places.set_aside() == places.set_aside(keys[2]) == (str(places.staging(keys[2]) / "set-aside/1"),)
    assert places.set_aside(keys[0]) == ()


def test_the_socket_lies_in_a_private_directory_of_the_runtime_directory(runtime: Path, tmp_path: Path) -> None:
    socket = places_of(tmp_path / "store").socket()
    assert socket.parent == runtime / "hyperfs"
    assert socket.parent.stat().st_mode & 0o777 == 0o700


def test_each_store_has_one_socket_however_it_is_named(runtime: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    link = tmp_path / "link"
    store.mkdir()
    link.symlink_to(store)
    assert places_of(store).socket() == places_of(link).socket() != places_of(tmp_path / "other").socket()


def test_a_directory_that_others_may_enter_is_refused(runtime: Path, tmp_path: Path) -> None:
    (runtime / "hyperfs").mkdir()
    (runtime / "hyperfs").chmod(0o755)
    with pytest.raises(DaemonError, match="only you"):
        places_of(tmp_path / "store").socket()


def test_a_link_in_place_of_the_directory_is_refused(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (runtime / "hyperfs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DaemonError):
        places_of(tmp_path / "store").socket()


@pytest.mark.parametrize("value", ["", "relative/path", "/does/not/exist"])
def test_without_a_usable_runtime_directory_the_socket_is_in_the_store(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert places_of(tmp_path / "store").socket() == tmp_path / "store/.hyperfs/control.sock"


def test_a_runtime_directory_in_which_others_may_make_something_is_not_used(runtime: Path, tmp_path: Path) -> None:
    runtime.chmod(0o777)
    (runtime / "hyperfs").write_text("made by somebody else, to lock us out")
    assert places_of(tmp_path / "store").socket() == tmp_path / "store/.hyperfs/control.sock"


def test_a_socket_can_be_reached_however_long_its_path_is(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        with socket_address(directory / "socket") as address:
            listener.bind(address)
            listener.listen(1)
        with socket_address(directory / "socket") as address:
            client.connect(address)
        assert (directory / "socket").is_socket()


def test_the_default_store_is_in_the_data_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_store() == Path("/data/hyperfs")


@pytest.mark.parametrize("mountpoint", ["/", "/srv", "/srv/store", "/srv/store/00", "/srv/store/.hyperfs/mounts"])
def test_a_mount_point_above_or_inside_the_store_is_refused(mountpoint: str) -> None:
    with pytest.raises(UsageError):
        refuse_overlap(Path(mountpoint), Path("/srv/store"))


@pytest.mark.parametrize("mountpoint", ["/mnt", "/srv/store2", "/srv/other", "/srv/stor"])
def test_a_mount_point_beside_the_store_is_fine(mountpoint: str) -> None:
    refuse_overlap(Path(mountpoint), Path("/srv/store"))


def test_a_lock_is_one_holders_at_a_time_and_names_him(tmp_path: Path) -> None:
    with LockFile(tmp_path / "lock") as first, LockFile(tmp_path / "lock") as second:
        assert first.try_take()
        assert not second.try_take()
        assert second.holder() == os.getpid()


def test_a_lock_that_was_released_can_be_taken(tmp_path: Path) -> None:
    with LockFile(tmp_path / "lock") as first, LockFile(tmp_path / "lock") as second:
        assert first.try_take()
        first.release()
        assert second.try_take()
