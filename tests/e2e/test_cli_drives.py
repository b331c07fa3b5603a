"""The commands that need no FUSE, in real processes: a drive's life from import to export."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hyperfs.daemon.client import Start, connect
from hyperfs.daemon.committer import DaemonCommitter
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter

from ..support.commands import Hyperfs, hyperfs_in


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path_factory.mktemp("shared")) as commands:
        yield commands


@pytest.fixture(scope="module")
def source(shared: Hyperfs) -> Path:
    folder = shared.store.parent / "source"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/hello.txt").write_text("hello\n")
    (folder / "a/b/hello.txt").chmod(0o640)
    (folder / "big.bin").write_bytes(os.urandom(3_000_000))
    (folder / "empty").touch()
    (folder / "Grüße €.txt").write_text("ü")
    (folder / "link").symlink_to("a/b")
    return folder


@pytest.fixture(scope="module")
def key(shared: Hyperfs, source: Path) -> str:
    """A drive of ``source``, in which nothing changes from then on; its first version is tagged v1."""
    key = shared.imported(source)
    shared("tag", key, "v1")
    return key


@pytest.fixture
def changing(shared: Hyperfs, tmp_path: Path) -> tuple[str, Path]:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "kept").write_text("kept")
    (folder / "gone").write_text("gone")
    return shared.imported(folder), folder


def test_import_prints_the_key_alone_on_the_standard_output(shared: Hyperfs, source: Path) -> None:
    key = shared("import", source).removesuffix("\n")
    assert len(bytes.fromhex(key)) == 32


def test_ls_lists_names_in_order(shared: Hyperfs, key: str) -> None:
    assert shared("ls", key).splitlines() == ["Grüße €.txt", "a", "big.bin", "empty", "link"]


def test_ls_of_a_path_may_be_written_behind_the_key(shared: Hyperfs, key: str) -> None:
    assert shared("ls", f"hyper://{key}/a/b") == shared("ls", key, "a/b") == "hello.txt\n"


def test_ls_goes_into_directories(shared: Hyperfs, key: str) -> None:
    assert {"a", "a/b", "a/b/hello.txt"} <= set(shared("ls", "-R", key).splitlines())


def test_ls_shows_mode_size_and_target(shared: Hyperfs, key: str) -> None:
    lines = {line.split("  ")[-1]: line for line in shared("ls", "-l", "-R", key).splitlines()}
    assert lines["big.bin"].startswith("-rw-r--r--   2.9 MiB")
    assert lines["a/b/hello.txt"].startswith("-rw-r-----")
    assert "link -> a/b" in lines


def test_ls_as_json_is_one_object_a_line(shared: Hyperfs, key: str) -> None:
    found = {entry["path"]: entry for entry in map(json.loads, shared("ls", "--json", key).splitlines())}
    assert found["big.bin"]["size"] == 3_000_000
    assert found["link"]["target"] == "a/b"


def test_tree_draws_what_is_in_a_drive(shared: Hyperfs, key: str) -> None:
    assert shared("tree", "-s", key).splitlines() == [
        ".",
        "├── Grüße €.txt  2 B",
        "├── a",
        "│   └── b",
        "│       └── hello.txt  6 B",
        "├── big.bin  2.9 MiB",
        "├── empty  0 B",
        "└── link -> a/b",
        "",
        "2 directories, 5 files",
    ]
    assert shared("tree", "-d", "-L", "1", key).splitlines()[1:] == ["└── a", "", "1 directory"]
    assert "it is not a directory" in shared.fails("tree", key, "empty")


def test_du_adds_up_folders_and_what_is_here_of_them(shared: Hyperfs, key: str) -> None:
    found = [json.loads(line) for line in shared("du", "--json", key).splitlines()]
    assert found == [
        {"path": "", "size": 3_000_008, "here": 3_000_008, "files": 4},
        {"path": "a", "size": 6, "here": 6, "files": 1},
        {"path": "a/b", "size": 6, "here": 6, "files": 1},
    ]
    assert shared("du", "-b", "-L", "0", key) == "3000008\t3000008\t4\t.\n"
    assert shared("du", "-L", "1", key, "a").splitlines() == ["6 B\t6 B\t1\ta", "6 B\t6 B\t1\ta/b"]


def test_map_draws_which_parts_of_a_file_are_here(shared: Hyperfs, key: str) -> None:
    assert shared("map", key, "big.bin").splitlines() == ["|██████|", "2.9 MiB; here: 6 of 6 blocks (100 %)"]
    assert shared.json("map", key, "big.bin")["here"] == [1.0] * 6
    assert shared("map", key, "empty") == "0 B; here: 0 of 0 blocks\n"


@pytest.fixture(scope="module")
def linked(shared: Hyperfs) -> str:
    """A drive with links: to a file and a folder, from the root, in a circle, out of it and to nothing."""
    folder = shared.store.parent / "linked"
    (folder / "dir").mkdir(parents=True)
    (folder / "dir/file").write_text("inside\n")
    links = {"to-dir": "dir", "dir/rooted": "/dir/file", "dir/up": "..", "out": "../../../etc/passwd", "none": "/gone"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    return shared.imported(folder)


def test_ls_follows_links_inside_the_drive_when_asked(shared: Hyperfs, linked: str) -> None:
    done = shared.run("ls", "-RL", linked)
    listed = ["dir", "none", "out", "to-dir", "dir/file", "dir/rooted", "dir/up", "to-dir/file", "to-dir/rooted"]
    assert done.stdout.decode().splitlines() == [*listed, "to-dir/up"]
    assert done.returncode == 1
    assert done.stderr.decode().count("leads nowhere") == 2


def test_ls_goes_past_a_mounted_drive_that_nobody_has(shared: Hyperfs, tmp_path: Path) -> None:
    """As it is the other way round with a folder that may not be read: it is told, and the rest is listed."""
    (tmp_path / "file").touch()
    key = shared.imported(tmp_path)
    trio.run(mount_in, shared, key, "absent", bytes(32))
    done = shared.run("ls", "-R", key, "--timeout", "1")
    assert done.stdout.decode().splitlines() == ["absent", "file"]
    assert (done.returncode, "absent: nothing of drive 00000000" in done.stderr.decode()) == (1, True)


async def mount_in(commands: Hyperfs, key: str, path: str, other: bytes) -> None:
    """Mount another drive inside a drive of ``commands``' store."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_RUNTIME_DIR", commands.environment["XDG_RUNTIME_DIR"])
        async with connect(commands.store, start=Start.NEVER) as client:
            drive = await Drive.open(client, bytes.fromhex(key))
            await DriveWriter(drive, DaemonCommitter(client, drive.key)).mount(path, other)


def test_ls_of_what_a_link_leads_to_shows_that(shared: Hyperfs, linked: str) -> None:
    assert shared("ls", "-L", linked, "to-dir/rooted").splitlines() == ["to-dir/rooted"]
    (fields,) = map(json.loads, shared("ls", "-L", "--json", linked, "to-dir/rooted").splitlines())
    assert (fields["kind"], fields["path"], fields["name"]) == ("file", "to-dir/rooted", "rooted")


def test_cat_follows_links_inside_the_drive_when_asked(shared: Hyperfs, linked: str) -> None:
    assert shared("cat", "-L", linked, "to-dir/rooted") == "inside\n"
    assert "not a regular file" in shared.fails("cat", linked, "dir/rooted")
    assert "leads out of the drive" in shared.fails("cat", "-L", linked, "out")


def test_stat_of_a_link_is_the_links_own_unless_it_is_followed(shared: Hyperfs, linked: str) -> None:
    assert shared.json("stat", linked, "dir/rooted")["kind"] == "link"
    followed = shared.json("stat", "-L", linked, "dir/rooted")
    assert (followed["kind"], followed["path"], followed["size"]) == ("file", "dir/file", 7)


def test_export_puts_what_links_lead_to_in_their_place_when_asked(shared: Hyperfs, linked: str, tmp_path: Path) -> None:
    done = shared.run("export", "-L", linked, tmp_path / "copy")
    assert done.returncode == 1
    assert not [path for path in (tmp_path / "copy").rglob("*") if path.is_symlink()]
    assert (tmp_path / "copy/to-dir/rooted").read_text() == "inside\n"


def test_cat_prints_the_very_bytes(shared: Hyperfs, key: str, source: Path) -> None:
    done = shared.run("cat", key, "big.bin", "a/b/hello.txt")
    assert done.stdout == (source / "big.bin").read_bytes() + b"hello\n"


def test_cat_of_a_directory_fails_and_says_why(shared: Hyperfs, key: str) -> None:
    assert "a: it is a directory" in shared.fails("cat", key, "a")


def test_stat_tells_everything(shared: Hyperfs, key: str) -> None:
    told = shared.json("stat", key, "a/b/hello.txt")
    assert (told["key"], told["kind"], told["mode"], told["size"]) == (key, "file", 0o100640, 6)
    assert (told["blocks"], told["blocks_here"]) == (1, 1)


def test_info_tells_what_is_here(shared: Hyperfs, key: str) -> None:
    told = shared.json("info", key)
    assert (told["key"], told["writable"], told["tags"]) == (key, True, {"v1": told["version"] - 1})
    assert told["files"]["count"] == told["files"]["here"] == 4


def test_info_counts_what_is_at_a_path(shared: Hyperfs, key: str) -> None:
    told = shared.json("info", key, "a/b")
    assert (told["path"], told["files"]["count"], told["files"]["bytes"]) == ("a/b", 1, 6)


def test_info_of_a_path_that_is_not_there_fails(shared: Hyperfs, key: str) -> None:
    assert "no such file" in shared.fails("info", key, "b")


def test_export_writes_what_was_imported(shared: Hyperfs, key: str, source: Path, tmp_path: Path) -> None:
    shared("export", key, tmp_path / "copy")
    subprocess.run(["diff", "-r", "--no-dereference", source, tmp_path / "copy"], check=True)


@pytest.mark.parametrize(("behind", "path"), [("", "a"), ("/a", ""), ("/a", "b"), ("", "a/b/hello.txt")])
def test_export_of_a_part_writes_that_part(shared: Hyperfs, key: str, tmp_path: Path, behind: str, path: str) -> None:
    shared("export", key + behind, tmp_path / "copy", path)
    (copied,) = (tmp_path / "copy").rglob("*.txt")
    assert (copied.read_text(), len(list((tmp_path / "copy").rglob("*.bin")))) == ("hello\n", 0)


def test_an_import_of_what_has_not_changed_appends_nothing(shared: Hyperfs, key: str, source: Path) -> None:
    version = shared.json("info", key)["version"]
    told = shared.json("import", source, key)
    assert (told["version"], told["files"]) == (version, 0)


def test_an_import_brings_a_drive_up_to_date(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, folder = changing
    (folder / "new").write_text("new")
    (folder / "gone").unlink()
    shared("import", folder, key)
    assert shared("ls", key).splitlines() == ["gone", "kept", "new"]
    shared("import", "--delete", folder, key)
    assert shared("ls", key).splitlines() == ["kept", "new"]


def test_a_dry_run_changes_nothing(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, folder = changing
    (folder / "new").write_text("new")
    version = shared.json("info", key)["version"]
    assert "+ new" in shared("import", "--dry-run", folder, key)
    assert shared.json("info", key)["version"] == version


def test_a_dry_run_is_told_as_json_too(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, folder = changing
    (folder / "new").touch()
    (folder / "gone").unlink()
    told = shared.json("import", "-n", "--delete", folder, key)
    assert (told["key"], told["version"], told["files"], told["deletions"]) == (key, 3, ["new"], ["gone"])


def test_a_past_version_is_read_by_number_and_by_tag(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, folder = changing
    version = shared.json("info", key)["version"]
    shared("tag", key, "first")
    (folder / "kept").write_text("changed")
    shared("import", folder, key)
    now, by_number, by_tag = (shared("cat", address, "kept") for address in (key, f"{key}+{version}", f"{key}+first"))
    assert (now, by_number, by_tag) == ("changed", "kept", "kept")


def test_diff_tells_what_is_new_gone_and_changed(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, folder = changing
    version = shared.json("info", key)["version"]
    (folder / "kept").write_text("changed")
    (folder / "gone").unlink()
    (folder / "new").write_text("new")
    shared("import", "--delete", folder, key)
    told = shared.json("diff", key, str(version))
    assert {one["path"]: one["change"] for one in told["changes"]} == {"kept": "changed", "gone": "gone", "new": "new"}
    assert (told["key"], told["old"]) == (key, version)


def test_log_tells_what_each_version_did(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, folder = changing
    (folder / "gone").unlink()
    shared("import", "--delete", folder, key)
    newest = json.loads(shared("log", "--json", "-n", "1", key))
    assert (newest["action"], newest["path"]) == ("delete", "gone")


def test_a_tag_can_be_set_listed_and_deleted(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, _ = changing
    version = shared.json("info", key)["version"]
    shared("tag", f"{key}+2", "early")
    shared("tag", key, "late")
    assert shared.json("tag", key)["tags"] == {"early": 2, "late": version + 1}
    shared("tag", key, "--delete", "early")
    assert shared("tag", key) == f"late\t{version + 1}\n"


def test_a_tag_is_moved_only_by_force_and_says_what_it_names(shared: Hyperfs, changing: tuple[str, Path]) -> None:
    key, _ = changing
    version = shared.json("info", key)["version"]
    assert shared("tag", key, "v1") == f"v1 names version {version}\n"
    assert f"names version {version}" in shared.fails("tag", key, "v1")
    assert shared.json("tag", key)["tags"] == {"v1": version}
    assert shared("tag", "--force", key, "v1") == f"v1 names version {version + 1} and no longer {version}\n"


def test_a_new_drive_is_empty(shared: Hyperfs) -> None:
    key = shared("create").strip()
    assert shared("ls", key) == ""
    assert shared.json("info", key)["version"] == 1


def test_an_import_into_a_directory_of_the_drive(shared: Hyperfs, source: Path) -> None:
    key = shared("create").strip()
    shared("import", source / "a/b", key, "--into", "x/y")
    assert shared("cat", key, "x/y/hello.txt") == "hello\n"


def test_an_import_into_what_is_no_directory_is_refused(shared: Hyperfs, key: str, source: Path) -> None:
    version = shared.json("info", key)["version"]
    for path in ("empty", "empty/below", "link/below"):
        assert "not a directory" in shared.fails("import", source, key, "--into", path)
    assert shared.json("info", key)["version"] == version


def test_an_import_into_a_directory_below_the_one_that_was_named(shared: Hyperfs, source: Path) -> None:
    key = shared("create").strip()
    shared("import", source / "a/b", f"{key}/x", "--into", "y")
    assert shared("cat", key, "x/y/hello.txt") == "hello\n"


def test_status_tells_of_the_daemon(shared: Hyperfs, key: str) -> None:
    told = shared.json("status")
    assert (told["running"], told["pid"], told["mounts"]) == (True, shared.daemon_pid, [])


def test_a_reader_that_hangs_up_ends_the_command_quietly(shared: Hyperfs, key: str) -> None:
    with shared.start("cat", key, "big.bin") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(240) == -signal.SIGPIPE


def test_an_interrupted_command_ends_with_130_and_no_traceback(shared: Hyperfs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = f"127.0.0.1:{silent.getsockname()[1]}"
        with shared.start("ls", "ab" * 32, "--peer", peer) as process, silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()
            assert process.wait(240) == 130


def test_a_drive_that_is_served_is_read_from_another_store(shared: Hyperfs, key: str, tmp_path: Path) -> None:
    (address,) = shared.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    with hyperfs_in(tmp_path) as reader:
        assert reader("cat", key, "a/b/hello.txt", "--peer", address) == "hello\n"
        told = reader.json("info", key)
    assert (told["writable"], told["content"]["blocks_here"]) == (False, 1)
    shared("unserve", key)
