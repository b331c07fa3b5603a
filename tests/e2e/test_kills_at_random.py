"""Daemons killed while they write: whatever the moment, the store is in order, nothing forks, and readers go on."""

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hyperfs.core.store import run_store

from ..support.commands import Hyperfs, eventually, hyperfs_in, kill

KILLS = 3
KILLS_OF_READERS = 4
KILLS_OF_MOUNTS = 2
FILES = 60
FILE_BYTES = 400_000


def written_bytes(hyperfs: Hyperfs) -> int:
    """Return how much content the store's cores hold on disk."""
    return sum(file.stat().st_blocks * 512 for file in hyperfs.store.glob("??/??/*/data"))


def audit(hyperfs: Hyperfs) -> dict[str, list[int]]:
    """Return the bad blocks of each core that has any, of a store whose daemon is dead; raise for other damage."""

    async def run() -> dict[str, list[int]]:
        async with run_store(hyperfs.store) as store:
            found = {key.hex(): await (await store.core(key)).audit() for key in list(store.keys())}
        return {key: bad for key, bad in found.items() if bad}

    return trio.run(run)


def kill_after(hyperfs: Hyperfs, more_bytes: int, *, amid: "subprocess.Popen[bytes]") -> bool:
    """Kill the daemon once it has written so many more bytes; tell whether that was amid that work, not after it."""
    goal = written_bytes(hyperfs) + more_bytes
    eventually(lambda: amid.poll() is not None or written_bytes(hyperfs) >= goal)
    was_amid = amid.poll() is None
    hyperfs.kill_daemon()
    return was_amid


def fill(folder: Path, chance: random.Random, count: int) -> None:
    for number in range(count):
        (folder / str(number)).write_bytes(chance.randbytes(chance.randrange(FILE_BYTES)))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Hyperfs, Hyperfs]]:
    with hyperfs_in(tmp_path, "writer") as writer, hyperfs_in(tmp_path, "reader") as reader:
        yield writer, reader


def test_a_writer_that_is_killed_again_and_again(pair: tuple[Hyperfs, Hyperfs], tmp_path: Path) -> None:
    writer, reader = pair
    chance = random.Random(1)
    folder, mountpoint = tmp_path / "folder", tmp_path / "mnt"
    folder.mkdir()
    mountpoint.mkdir()
    key = writer.imported(folder)
    (address,) = writer.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    reader("mount", key, mountpoint, "--peer", address)
    broken_off = 0
    while broken_off < KILLS:  # some may be done with it just before
        fill(folder, chance, FILES)
        with writer.start("import", folder, key) as importing:
            kill_after(writer, chance.randrange(FILES * FILE_BYTES // 8), amid=importing)
            _, words = importing.communicate(timeout=240)
            assert importing.returncode in (0, 1)
            assert b"Traceback" not in words
        broken_off += importing.returncode
        assert audit(writer) == {}
    writer("import", folder, key)
    assert writer.json("import", "--checksum", folder, key)["version"] == writer.json("import", folder, key)["version"]
    eventually(lambda: agrees(folder, mountpoint))
    assert "fork" not in reader.log
    for hyperfs in pair:
        assert "Traceback" not in hyperfs.log
    reader("umount", mountpoint)
    reader("stop")
    assert audit(reader) == {}


def test_a_reader_whose_daemon_is_killed_again_and_again(pair: tuple[Hyperfs, Hyperfs], tmp_path: Path) -> None:
    writer, reader = pair
    chance = random.Random(2)
    folder, mountpoint = tmp_path / "folder", tmp_path / "mnt"
    folder.mkdir()
    mountpoint.mkdir()
    for number in range(KILLS_OF_READERS):
        (folder / str(number)).mkdir()
        fill(folder / str(number), chance, FILES // 2)
    key = writer.imported(folder)
    (address,) = writer.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    reader("mount", key, mountpoint, "--peer", address, "--timeout", "60")
    broken_off = 0
    for number in range(KILLS_OF_READERS):
        command = ["diff", "-r", folder / str(number), mountpoint / str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as comparing:
            broken_off += kill_after(reader, chance.randrange(FILES * FILE_BYTES // 16), amid=comparing)
            assert audit(reader) == {}
            reader("info", key)
            output, _ = comparing.communicate(timeout=120)
            assert (comparing.returncode, output) == (0, b"")
    assert broken_off
    assert "Traceback" not in reader.log
    reader("umount", mountpoint)
    reader("stop")
    assert audit(reader) == {}


def test_a_mount_that_is_killed_again_and_again(pair: tuple[Hyperfs, Hyperfs], tmp_path: Path) -> None:
    writer, reader = pair
    chance = random.Random(3)
    folder, mountpoint = tmp_path / "folder", tmp_path / "mnt"
    folder.mkdir()
    mountpoint.mkdir()
    fill(folder, chance, FILES // 2)
    key = writer.imported(folder)
    (address,) = writer.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    reader("mount", key, mountpoint, "--peer", address)
    for _ in range(KILLS_OF_MOUNTS):
        (mount,) = reader.mounts()
        with subprocess.Popen(
            ["diff", "-r", folder, mountpoint], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as diff:
            goal = written_bytes(reader) + chance.randrange(FILES * FILE_BYTES // 16)
            eventually(lambda diff=diff, goal=goal: diff.poll() is not None or written_bytes(reader) >= goal)
            kill(mount["pid"])
            diff.communicate(timeout=240)
        eventually(lambda pid=mount["pid"]: [m["state"] for m in reader.mounts() if m["pid"] != pid] == ["mounted"])
    assert agrees(folder, mountpoint)
    reader("umount", mountpoint)
    reader("stop")
    assert audit(reader) == {}


def agrees(folder: Path, mountpoint: Path) -> bool:
    """Tell whether two folders hold the same."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return not subprocess.run(["diff", "-r", folder, mountpoint], capture_output=True, timeout=240).returncode
    return False
