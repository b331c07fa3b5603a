"""What goes wrong, and what a person is told: in real processes, one test each."""

import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import trio

from hyperfs.core.store import run_store

from ..support.commands import ROOT, Hyperfs, eventually, hyperfs_in
from ..support.disks import small_disk

NOWHERE = "ab" * 32


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path_factory.mktemp("shared")) as commands:
        yield commands


@pytest.fixture(scope="module")
def key(shared: Hyperfs) -> str:
    folder = shared.store.parent / "folder"
    folder.mkdir()
    (folder / "file").write_text("content")
    return shared.imported(folder)


@pytest.fixture
def hyperfs(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path) as commands:
        yield commands


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "mnt"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("text", ["abc", "ab" * 31 + "zz", "ab" * 33, f"{NOWHERE}+", f"{NOWHERE}x"])
def test_a_malformed_key_is_wrong_usage(shared: Hyperfs, text: str) -> None:
    assert repr(text) in shared.fails("ls", text, status=2)


@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["eat"], ["ls", NOWHERE, "--peer", "h:none"], ["ls", NOWHERE, "--timeout", "0"], ["import", "/missing"]],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(shared: Hyperfs, arguments: list[str]) -> None:
    shared.fails(*arguments, status=2)


def test_an_unknown_version_is_told_with_the_newest_one(shared: Hyperfs, key: str) -> None:
    assert "no version 99; the newest is 2" in shared.fails("ls", f"{key}+99")


def test_an_unknown_tag_is_told(shared: Hyperfs, key: str) -> None:
    assert "no tag 'v9'" in shared.fails("ls", f"{key}+v9")


def test_an_unknown_path_is_told(shared: Hyperfs, key: str) -> None:
    assert "not/there: no such file or directory" in shared.fails("cat", key, "not/there")


def test_a_key_that_is_not_a_drive_is_told(hyperfs: Hyperfs) -> None:
    async def make() -> str:
        async with run_store(hyperfs.store) as store:
            core = await store.create_core()
            await core.append([b"no header"])
            return core.key.hex()

    key = trio.run(make)
    words = hyperfs.fails("ls", key)
    assert key[:8] in words
    assert "is not a " in words


def test_a_drive_of_somebody_else_cannot_be_changed(shared: Hyperfs, key: str, tmp_path: Path) -> None:
    (address,) = shared.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    with hyperfs_in(tmp_path) as reader:
        reader("ls", key, "--peer", address)
        assert "secret key is not in this store" in reader.fails("tag", key, "v1", "--peer", address)
    shared("unserve", key)


def test_a_store_that_another_program_holds_is_told_with_its_pid(hyperfs: Hyperfs) -> None:
    program = (
        "import sys, trio; from pathlib import Path; from hyperfs.core.store import Store;"
        f"store = trio.run(Store.open, Path({str(hyperfs.store)!r})); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert str(holder.pid) in hyperfs.fails("create")
        holder.kill()


def test_a_daemon_that_does_not_answer_is_told_with_its_pid(hyperfs: Hyperfs) -> None:
    hyperfs("create")
    pid = hyperfs.daemon_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        words = hyperfs.fails("ls", NOWHERE, "--timeout", "0.1")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert f"(process {pid}) does not answer" in words


def test_a_daemon_of_another_version_is_told(hyperfs: Hyperfs) -> None:
    (hyperfs.store / ".hyperfs").mkdir(parents=True)
    path = str(hyperfs.store.parent / "other.sock")
    header = msgpack.packb(["hyperfs", 99, "9.9.9", 12345])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        announcement = {"pid": os.getpid(), "socket": path, "hyperfs": "9.9.9", "ending": False}
        (hyperfs.store / ".hyperfs/daemon.json").write_text(json.dumps(announcement))

        def answer() -> None:
            with listener.accept()[0] as client:
                client.sendall(struct.pack(">II", len(header), 0) + header)
                client.recv(65536)

        answering = threading.Thread(target=answer)
        answering.start()
        words = hyperfs.fails("create")
        answering.join()
    (hyperfs.store / ".hyperfs/daemon.json").unlink()
    assert "hyperfs 9.9.9" in words
    assert "hyperfs stop" in words


def test_without_any_peer_a_drive_that_is_not_here_is_told(shared: Hyperfs) -> None:
    assert "--peer HOST:PORT" in shared.fails("ls", NOWHERE)


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        ("a.b.invalid:1", "a.b.invalid:1: "),
        ("[::1]:1", "[::1]:1: "),
    ],
)
def test_a_peer_that_cannot_be_reached_is_told_with_the_reason(shared: Hyperfs, peer: str, reason: str) -> None:
    words = shared.fails("ls", NOWHERE, "--peer", peer, "--timeout", "60")
    assert f"no peer could be reached ({reason}" in words


def test_that_time_is_up_is_told_only_when_it_is(shared: Hyperfs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = shared.fails("ls", NOWHERE, "--peer", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5")
    assert "within 0.5 s" in words


def test_a_peer_that_does_not_have_the_drive_is_told(shared: Hyperfs, key: str, tmp_path: Path) -> None:
    (address,) = shared.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    with hyperfs_in(tmp_path) as reader:
        words = reader.fails("ls", NOWHERE, "--peer", address, "--timeout", "60")
        assert words.endswith("no connected peer has offered it\n")
    shared("unserve", key)


def test_a_file_that_nobody_has_any_more_is_told(shared: Hyperfs, key: str, tmp_path: Path) -> None:
    (address,) = shared.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    with hyperfs_in(tmp_path) as reader:
        reader("ls", key, "--peer", address)
        assert "content    not known yet" in reader("info", key)
        shared("unserve", key)
        reader.kill_daemon()
        assert "no peer" in reader.fails("cat", key, "file")
        shown = reader.run("ls", key, "--peer", "127.0.0.1:1")
        assert shown.stdout == b"file\n", "what is here is shown"
        problem = f"cannot reach 127.0.0.1:1: Connection refused; drive {key[:8]} is shown as it is here"
        assert problem in shown.stderr.decode()


def test_an_address_that_is_taken_is_told(shared: Hyperfs, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"{address}: cannot listen there: Address already in use" in shared.fails(
            "serve", key, "--listen", address
        )


def test_a_mount_point_that_is_missing_is_told(shared: Hyperfs, key: str, tmp_path: Path) -> None:
    assert "no such folder" in shared.fails("mount", key, tmp_path / "missing")


def test_a_mount_point_that_is_a_file_is_told(shared: Hyperfs, key: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "not a folder" in shared.fails("mount", key, tmp_path / "file")


def test_a_mount_point_that_is_not_empty_is_told(shared: Hyperfs, key: str, mountpoint: Path) -> None:
    (mountpoint / "file").touch()
    assert "not an empty folder" in shared.fails("mount", key, mountpoint)


def test_a_mount_point_that_is_taken_is_told(shared: Hyperfs, key: str, mountpoint: Path) -> None:
    shared("mount", key, mountpoint)
    shared("mount", key, mountpoint)  # what is mounted there is what was asked for
    assert "mounted there already" in shared.fails("mount", f"{key}+1", mountpoint, status=2)
    shared("umount", mountpoint)


def test_a_mount_point_above_the_store_is_wrong_usage(shared: Hyperfs, key: str) -> None:
    assert "above or inside the store" in shared.fails("mount", key, shared.store.parent, status=2)


def test_a_mount_point_inside_the_store_is_wrong_usage(shared: Hyperfs, key: str) -> None:
    inside = shared.store / "inside"
    inside.mkdir()
    assert "above or inside the store" in shared.fails("mount", key, inside, status=2)


def test_a_link_into_the_store_is_no_way_around_it(shared: Hyperfs, key: str, tmp_path: Path) -> None:
    (shared.store / "linked").mkdir()
    (tmp_path / "link").symlink_to(shared.store / "linked")
    assert "above or inside the store" in shared.fails("mount", key, tmp_path / "link", status=2)


@pytest.mark.parametrize(
    "hide",
    ["mount -t tmpfs none /dev && touch /dev/null", "mount --bind /dev/null /dev/fuse"],
    ids=["missing", "other"],
)
def test_a_machine_without_fuse_is_told(shared: Hyperfs, key: str, mountpoint: Path, hide: str) -> None:
    hide += ' && exec "$@"'
    words = shared.fails("mount", key, mountpoint, wrapper=("unshare", "-m", "sh", "-c", hide, "sh"))
    assert "no FUSE on this machine" in words


def test_what_is_not_mounted_cannot_be_unmounted(shared: Hyperfs, mountpoint: Path) -> None:
    assert "no drive" in shared.fails("umount", mountpoint, status=2)


def test_a_folder_in_use_is_unmounted_only_when_asked_to(shared: Hyperfs, key: str, mountpoint: Path) -> None:
    shared("mount", key, mountpoint)
    inside = os.open(mountpoint / "file", os.O_RDONLY)
    assert "somebody is in it" in shared.fails("umount", mountpoint)
    assert (mountpoint / "file").read_text() == "content"
    shared("umount", "--lazy", mountpoint)
    assert list(mountpoint.iterdir()) == []
    with pytest.raises(OSError, match="not connected"):
        os.close(inside)


def test_a_full_disk_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("content")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/big").write_bytes(os.urandom(6_000_000))
    with small_disk(tmp_path / "small", 4) as small, hyperfs_in(small) as hyperfs:
        key = hyperfs.imported(tmp_path / "a")
        assert "No space left on device" in hyperfs.fails("import", tmp_path / "b")
        assert hyperfs("cat", key, "file") == "content"


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null", "/dev/null/below"])
def test_a_store_that_cannot_be_made_is_told(shared: Hyperfs, place: str) -> None:
    assert f"{place}: no store can be kept here" in shared.fails("create", "--store", place)


@pytest.mark.parametrize("name", ["12", "a/b", "..", ""])
def test_what_is_no_name_for_a_tag_is_wrong_usage(shared: Hyperfs, key: str, name: str) -> None:
    assert f"{name!r} is not a tag" in shared.fails("tag", key, name, status=2)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, bytes]]:
    """A store that nobody uses, its drive's key, and the drive's files."""
    directory = tmp_path_factory.mktemp("healthy")
    (directory / "folder").mkdir()
    files = {f"file{number}": os.urandom(20_000) for number in range(20)}
    for name, content in files.items():
        (directory / "folder" / name).write_bytes(content)
    with hyperfs_in(directory) as hyperfs:
        key = hyperfs.imported(directory / "folder")
        hyperfs("stop")
    return directory / "store", key, files


@pytest.mark.parametrize("harm", ["truncate", "flip"])
@pytest.mark.parametrize("name", ["key", "name", "tree", "signatures", "bitfield", "data"])
def test_a_damaged_store_is_told_or_harmless(
    tmp_path: Path, healthy: tuple[Path, str, dict[str, bytes]], name: str, harm: str
) -> None:
    store, key, files = healthy
    shutil.copytree(store, tmp_path / "store", symlinks=True)
    choose = random.Random(f"{name} {harm}")
    for path in sorted((tmp_path / "store").glob(f"??/??/*/{name}")):
        content = bytearray(path.read_bytes())
        if harm == "truncate":
            del content[len(content) // 2 :]
        else:
            for _ in range(8):
                content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
        path.write_bytes(content)
    with hyperfs_in(tmp_path) as hyperfs:
        if name == "data":  # reading does not hash again what was verified once; this does
            assert hyperfs.run("check", key).returncode == 1
        done = hyperfs.run("cat", key, *files)
        words = done.stderr.decode()
        assert "Traceback" not in words
        assert "fault in hyperfs" not in words
        assert content_of(files).startswith(done.stdout)
        if done.returncode == 0:
            assert done.stdout == content_of(files)
        else:
            assert (done.returncode, words.startswith("hyperfs: ")) == (1, True), words
        assert "Traceback" not in hyperfs.log, hyperfs.log


def content_of(files: dict[str, bytes]) -> bytes:
    return b"".join(files.values())


def test_a_store_without_its_master_key_is_told(tmp_path: Path, healthy: tuple[Path, str, dict[str, bytes]]) -> None:
    shutil.copytree(healthy[0], tmp_path / "store", symlinks=True)
    (tmp_path / "store/master_key").unlink()
    with hyperfs_in(tmp_path) as hyperfs:
        assert "master_key is missing" in hyperfs.fails("ls", healthy[1])


def test_a_daemon_that_is_killed_while_a_command_waits_is_told(hyperfs: Hyperfs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = f"127.0.0.1:{silent.getsockname()[1]}"
        with hyperfs.start("ls", NOWHERE, "--peer", peer) as process, silent.accept()[0]:
            eventually(lambda: hyperfs.daemon_pid is not None)
            hyperfs.kill_daemon()
            assert process.wait(240) == 1
            assert process.stderr is not None
            assert b"went away" in process.stderr.read()


def test_a_traceback_is_shown_only_with_v(shared: Hyperfs, key: str) -> None:
    assert b"Traceback" in shared.run("cat", key, "missing", "-v").stderr
