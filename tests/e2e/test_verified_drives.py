"""A drive whose author is hostile: what cannot be shown is left out, and nothing leads anywhere else."""

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

import hyperfs
from hyperfs.drive.stat import Stat, encode_stat
from hyperfs.trie import Put

from ..support.commands import Hyperfs, eventually, hyperfs_in

UNFIT = ["..", ".", "nul\0name", "n" * 256, "ö" * 128, "no-stat"]
FIT = [
    "both",
    "device",
    "far-future",
    "good",
    "huge",
    "line\nbreak",
    "other-bytes",
    "out",
    "raw-link",
    "self",
    "set-id",
    "\x1b[31mred",
]


@dataclass(frozen=True, slots=True)
class Hostile:
    """A reader's store in which a hostile drive, read from a peer, is mounted at ``folder``."""

    reader: Hyperfs
    key: str
    folder: Path
    outside: Path
    first_version: int


async def make_hostile(store_path: Path, outside: Path) -> tuple[str, int]:
    async with hyperfs.open_store(store_path) as store:
        drive = await store.create_drive()
        writer = await store.writer(drive)
        committer = await store.committer(drive)
        await writer.put_file("good", b"good")
        good = (await drive.snapshot().stat("good")).stat

        def put(path: str, found: Stat) -> Put:
            return Put(path, encode_stat(found))

        def link(target: str) -> Stat:
            return Stat(0o120777, linkname=target)

        await committer.commit(
            [
                *(put(name, good) for name in UNFIT[:-1]),
                put("a/../../escaped", good),
                put("../escaped", good),
                Put("no-stat", b"\xff\xff"),
                put("line\nbreak", good),
                put("\x1b[31mred", good),
                put("set-id", Stat(0o106755, size=4, blocks=1, byte_offset=0)),
                put("device", Stat(0o060666)),
                put("huge", Stat(0o100644, size=1 << 60, blocks=1)),
                put("other-bytes", Stat(0o100644, size=3, blocks=1, offset=0, byte_offset=1)),
                put("a/beyond", Stat(0o100644, size=4, blocks=1, offset=1 << 40, byte_offset=1 << 50)),
                put("far-future", Stat(0o100644, mtime=1 << 62, ctime=1 << 63)),
                put("raw-link", link("\udcff")),
                put("both", good),
                put("both/child", good),
                put("out", link(str(outside))),
                put("out/planted", good),
                put("later", link(str(outside))),
            ]
        )
        first_version = drive.version
        await writer.delete("later")
        await writer.put_file("later/planted", b"planted")
        await writer.mount("self", drive.key)
        return drive.key.hex(), first_version


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    directory = tmp_path_factory.mktemp("hostile")
    for name in ("mnt", "outside"):
        (directory / name).mkdir()
    key, first_version = trio.run(make_hostile, directory / "source", directory / "outside")
    with hyperfs_in(directory, "source") as source, hyperfs_in(directory, "reader") as reader:
        (address,) = source.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
        reader("mount", key, directory / "mnt", "--peer", address, "--timeout", "3")
        yield Hostile(reader, key, directory / "mnt", directory / "outside", first_version)


def test_a_listing_leaves_out_what_no_folder_can_hold(hostile: Hostile) -> None:
    done = hostile.reader.run("ls", hostile.key)
    assert done.returncode == 0
    assert done.stdout.decode() == "".join(f"{name}\n" for name in sorted([*FIT, "a", "later"]))
    assert done.stderr.decode().count("left out") == 1


def test_a_raw_listing_shows_them(hostile: Hostile) -> None:
    shown = hostile.reader("ls", "--raw", hostile.key).splitlines()
    assert {repr("nul\0name"), "..", ".", "n" * 256, "ö" * 128, "no-stat"} <= set(shown)


def test_a_mount_shows_the_rest_and_says_so_once(hostile: Hostile) -> None:
    for _ in range(3):
        assert sorted(os.listdir(hostile.folder)) == sorted([*FIT, "a", "later"])
    eventually(lambda: len(re.findall("left out.*directory ''|directory ''.*left out", hostile.reader.log)) == 1)


def test_a_name_that_is_left_out_cannot_be_opened(hostile: Hostile) -> None:
    assert not (hostile.folder / "no-stat").exists()
    assert os.listdir(hostile.folder / "a") == ["beyond"]
    assert not (hostile.folder / "a" / ("n" * 255)).exists()


def test_what_is_no_file_folder_or_link_is_told_by_its_path(hostile: Hostile) -> None:
    words = hostile.reader.fails("stat", hostile.key, "no-stat")
    assert words.startswith("hyperfs: no-stat: what the drive has there is no file")


def test_a_path_that_is_both_is_the_file(hostile: Hostile) -> None:
    assert (hostile.folder / "both").read_bytes() == b"good"
    with pytest.raises(NotADirectoryError):
        (hostile.folder / "both/child").read_bytes()
    assert "not a directory" in hostile.reader.fails("cat", hostile.key, "both/child")


def test_a_drive_mounted_inside_itself_is_a_loop(hostile: Hostile) -> None:
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        os.listdir(hostile.folder / "self")
    assert "mounted inside itself" in hostile.reader.fails("ls", hostile.key, "self")


def test_a_walk_does_not_go_round(hostile: Hostile) -> None:
    assert "self" in hostile.reader("ls", "-R", hostile.key).splitlines()


@pytest.mark.parametrize("name", ["huge", "other-bytes", "a/beyond"])
def test_a_record_that_lies_about_its_bytes_is_an_error(hostile: Hostile, name: str) -> None:
    with (hostile.folder / name).open("rb") as file, pytest.raises(OSError, match="Input/output error"):
        file.read(10)
    assert (hostile.folder / "good").read_bytes() == b"good"
    hostile.reader.fails("cat", hostile.key, name, "--timeout", "1")


def test_a_device_leads_to_no_device(hostile: Hostile) -> None:
    with pytest.raises(PermissionError):
        (hostile.folder / "device").open("rb").close()


def test_a_link_to_what_is_not_utf_8_keeps_its_bytes(hostile: Hostile) -> None:
    assert os.readlink(os.fsencode(hostile.folder / "raw-link")) == b"\xff"
    strict = {**hostile.reader.environment, "PYTHONIOENCODING": "utf-8:strict"}
    listing = hostile.reader.run("ls", "-l", hostile.key, env=strict)
    assert b"raw-link -> \xff\n" in listing.stdout
    told = hostile.reader.run("stat", "--json", hostile.key, "raw-link", env=strict)
    assert json.loads(told.stdout)["target"] == "\udcff"


def test_an_export_stays_inside_its_target(hostile: Hostile, tmp_path: Path) -> None:
    target = tmp_path / "in/target"
    told = hostile.reader.fails("export", hostile.key, target)
    assert {"left out: huge", "left out: other-bytes", "left out: device"} <= set(re.findall("left out: [a-z-]*", told))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["target"]
    assert list(hostile.outside.iterdir()) == []
    assert (target / "out").is_symlink()
    assert stat.S_IMODE((target / "set-id").stat().st_mode) & 0o6000 == 0
    assert not (target / "device").exists()
    assert (target / "good").read_bytes() == b"good"
    assert sorted(path.name for path in target.iterdir()) == sorted(
        {*FIT, "a", "later"} - {"huge", "other-bytes", "device"}
    )


def test_a_link_that_was_exported_before_is_not_followed(hostile: Hostile, tmp_path: Path) -> None:
    target = tmp_path / "target"
    hostile.reader.run("export", f"{hostile.key}+{hostile.first_version}", target)
    assert os.readlink(target / "later") == str(hostile.outside)
    hostile.reader.run("export", hostile.key, target)
    assert list(hostile.outside.iterdir()) == []


def test_nothing_of_it_is_a_fault_of_ours(hostile: Hostile) -> None:
    assert "Traceback" not in hostile.reader.log
    assert "unexpected" not in hostile.reader.log
