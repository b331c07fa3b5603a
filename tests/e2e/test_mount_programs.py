"""Programs that people use, on a writable mount: what they leave is what they leave on the disk beside it."""

import filecmp
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import eventually
from tests.support.writable import WritableMount, writable_mount

FILES = 1500


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WritableMount]:
    with writable_mount(tmp_path_factory.mktemp("programs"), "--flush-interval", "1") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of a few thousand files, on the disk."""
    folder = tmp_path_factory.mktemp("source") / "repository"
    chance = random.Random(1)
    for number in range(FILES):
        path = folder / f"d{number % 40}" / f"e{number % 7}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"line {number}\n" * chance.randint(1, 60))
    (folder / "link").symlink_to("d1/e1")
    os.setxattr(folder / "d0", "user.note", b"kept")
    run("git", "init", "-q", ".", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "all", cwd=folder)
    return folder


def run(*command: str | Path, cwd: Path | None = None) -> str:
    who = {f"GIT_{role}_{part}": "tester@localhost" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def differences(one: Path, other: Path) -> list[str]:
    compared = filecmp.dircmp(one, other, ignore=[])
    found: list[str] = []
    waiting = [compared]
    while waiting:
        here = waiting.pop()
        found += here.left_only + here.right_only + here.funny_files
        found += filecmp.cmpfiles(here.left, here.right, here.common_files, shallow=False)[1]
        waiting += here.subdirs.values()
    return found


def test_git(drive: WritableMount, source: Path) -> None:
    clone = drive.folder / "clone"
    run("git", "clone", "-q", source, clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    (clone / "d1/e1/f1.txt").write_text("changed\n")
    assert run("git", "status", "--porcelain", cwd=clone) == " M d1/e1/f1.txt\n"
    run("git", "commit", "-qam", "change", cwd=clone)
    run("git", "gc", "-q", cwd=clone)
    run("git", "fsck", "--full", "--strict", cwd=clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    head = run("git", "rev-parse", "HEAD", cwd=clone).strip()
    eventually(lambda: head.encode() in drive.cat("clone/.git/refs/heads/master") + drive.cat("clone/.git/packed-refs"))


def test_rsync_has_nothing_to_do_the_second_time(drive: WritableMount, source: Path) -> None:
    there = drive.folder / "rsync"
    options = ("rsync", "-aHAX", "--checksum", "--itemize-changes")
    assert run(*options, f"{source}/", f"{there}/") != ""
    assert run(*options, f"{source}/", f"{there}/") == ""
    assert run(*options, "--dry-run", f"{there}/", f"{source}/") == ""


def test_cp_and_find_delete(drive: WritableMount, source: Path) -> None:
    there = drive.folder / "copy"
    run("cp", "-a", source, there)
    assert differences(source, there) == []
    assert os.getxattr(there / "d0", "user.note") == b"kept"
    assert (there / "d0").stat().st_mtime_ns == (source / "d0").stat().st_mtime_ns
    run("find", there, "-delete")
    assert not there.exists()


def test_tar_in_and_out(drive: WritableMount, source: Path) -> None:
    there = drive.folder / "tar"
    there.mkdir()
    run("tar", "cf", there / "x.tar", "-C", source, ".")
    (there / "x").mkdir()
    run("tar", "xf", there / "x.tar", "-C", there / "x")
    assert differences(source, there / "x") == []
    run("tar", "df", there / "x.tar", "-C", there / "x")
    run("rm", "-r", there)
    assert not there.exists()


def test_zip(drive: WritableMount, source: Path) -> None:
    there = drive.folder / "zip"
    there.mkdir()
    shutil.make_archive(str(there / "x"), "zip", source / "d3")
    with zipfile.ZipFile(there / "x.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(there / "x")
    assert differences(source / "d3", there / "x") == []


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_appends_a_few_times_its_size_at_most(drive: WritableMount, mode: str) -> None:
    before = drive.hyperfs.json("info", drive.key)["content"]["bytes"]
    began = time.monotonic()
    path = drive.folder / f"{mode}.db"
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute(f"pragma journal_mode={mode}")
        database.execute("create table rows(id integer primary key, value text)")
        for number in range(1000 if mode == "delete" else 4000):
            database.execute("insert into rows(value) values (?)", (f"row {number} " * 10,))
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    database.close()
    size = path.stat().st_size
    eventually(lambda: len(drive.cat(path.name)) == size)
    copy = drive.folder.parent / f"{mode}.db"
    copy.write_bytes(drive.cat(path.name))
    with sqlite3.connect(copy) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    database.close()
    after = drive.hyperfs.json("info", drive.key)["content"]["bytes"]
    # The waits between two commits of it double, so a slow machine makes few more; one is for the last close.
    commits = 2 + math.ceil(math.log2(1 + (time.monotonic() - began) / 5))
    assert after - before < commits * (size + 100_000)


def test_an_editor_saves_by_renaming(drive: WritableMount) -> None:
    path = drive.folder / "text"
    path.write_text("first\n")
    for number in range(20):
        swap = drive.folder / ".text.swp"
        swap.write_text("swap\n")
        new = drive.folder / "text.new"
        new.write_text(f"save {number}\n")
        shutil.copymode(path, new)
        new.replace(path)
        swap.unlink()
        assert path.read_text() == f"save {number}\n"
    eventually(lambda: drive.cat("text") == b"save 19\n")


def test_make_builds_what_changed(drive: WritableMount) -> None:
    folder = drive.folder / "project"
    folder.mkdir()
    (folder / "f.c").write_text("int f(void) { return 42; }\n")
    (folder / "m.c").write_text('#include <stdio.h>\nint f(void);\nint main(void) { printf("%d", f()); return 0; }\n')
    (folder / "Makefile").write_text("p: f.o m.o\n\tcc -o p f.o m.o\n")
    run("make", "-s", cwd=folder)
    assert run(folder / "p") == "42"
    assert "up to date" in run("make", cwd=folder)
    os.utime(folder / "f.c", (2_000_000_000, 2_000_000_000))
    assert "f.c" in run("make", cwd=folder)


def test_a_virtual_environment_works_inside(drive: WritableMount) -> None:
    there = drive.folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", there)
    assert run(there / "bin/python", "-c", "import sys; print(sys.prefix)").strip() == str(there)


@pytest.mark.parametrize("pattern", ["randrw", "write"])
def test_fio_verifies_what_it_wrote(drive: WritableMount, pattern: str) -> None:
    there = drive.folder / f"fio-{pattern}"
    there.mkdir()
    job = ("--name=job", f"--rw={pattern}", "--bs=4k", "--size=8m", "--verify=crc32c", "--do_verify=1")
    run("fio", *job, f"--directory={there}", "--fallocate=none", cwd=drive.folder.parent)
