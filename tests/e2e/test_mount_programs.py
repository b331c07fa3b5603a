"""Programs that people use, on a writable mount: what they leave is what they leave on the disk beside it."""

import filecmp
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperfs.mount.staging.committing import SMALL_BYTES
from tests.support.commands import eventually
from tests.support.writable import WritableMount, writable_mount

FILES = 600


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WritableMount]:
    with writable_mount(tmp_path_factory.mktemp("programs"), "--flush-interval", "1") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of some hundred files, on the disk."""
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


WHO = {f"GIT_{role}_{part}": "tester@localhost" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
WHEN = {f"GIT_{role}_DATE": "2020-02-02T02:02:02Z" for role in ("AUTHOR", "COMMITTER")}
ENVIRONMENT = {**os.environ, **WHO, **WHEN, "LC_ALL": "C", "TZ": "UTC", "HOME": "/nowhere"}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
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


SCRIPTS = {
    "git": """
        git init -q . && seq 100 > a && mkdir d && seq 50 > d/b && git add -A && git commit -qm one
        git stash list && echo more >> a && git stash -q && git stash pop -q && git diff --stat && git commit -qam two
        git switch -qc side HEAD~1 && echo side > s && git add s && git commit -qm side && git rebase -q - && cat s
        git worktree add -q ../wt-$PPID HEAD~1 && (cd ../wt-$PPID && cat s; git status --short; git rm -q a)
        git worktree remove --force ../wt-$PPID && git worktree list | wc -l && git mv d e && git status --short
        git gc -q --prune=now && git fsck --strict --full && git clean -fdx && git rev-parse HEAD^{tree}
    """,
    "editors": """
        seq 5 > text && chmod 640 text && sed -i s/3/three/ text && sed -i.bak s/4/four/ text && stat -c %a text*
        cp text new && mv text text~ && mv new text && cat text text~
        ln -s me@here.1:2 .#text && readlink .#text && rm .#text && echo auto > '#text#' && rm '#text#'
        vim -u NONE -es -c 'set backup backupcopy=yes' -c '%s/1/one/' -c wq text; cat text; ls -A
        vim -u NONE -es -c 'set backupcopy=no undofile undodir=.' -c '%s/2/two/' -c wq text; cat text; ls -A
        diff -u text~ text > change; patch -p0 text~ < change && patch -R -b text~ change && cat text~ && ls -A
    """,
    "in place": """
        seq 20000 > f && dd if=f of=g conv=fsync status=none && dd if=f of=g bs=100 seek=3 conv=notrunc status=none
        truncate -s 50000 f && truncate -s +7 f && truncate -r f h && truncate -s %4096 h && stat -c '%n %s' f g h
        sort -r -o f f && sort -n -u -S 1M -T . -o f f && split -b 1000 f part. && cat part.* | cmp - f
        csplit -s g 5 && shuf -i 1-1000 -o s && sort -n -o s s && uniq s | wc -l && tee -a s < f > /dev/null && wc -c s
        exec 5<> gone; echo data >&5; rm gone; echo more >&5; cat /proc/self/fd/5; md5sum *
    """,
    "names": """
        mkdir -p a b && touch a/1 a/2 a/3 && mv a/* b/ && mv -b b/1 b/2 && mv -n b/2 b/3; ls a b && mv -T b c && mv c a/
        ln -sfn a link && readlink link && mkfifo pipe && (echo through > pipe &) && cat pipe && find . -type f | sort
        touch -d 2001-02-03T04:05:06.123456789Z t && touch -r t u && stat -c %y t u && install -D -m 750 t x/y/z
        stat -c '%a %F %s' x/y/z && printf '#!/bin/sh\\necho ran\\n' > run && chmod +x run && ./run && ./run > c
        cp --backup=numbered t u && cp --backup=numbered t u && ls && mktemp -d here.XXXX | wc -c && rmdir here.*
    """,
    "archives": """
        mkdir -p s/d && seq 999 > s/a && ln -s a s/l && mkfifo s/p && touch -d 1999-01-01 s/a && chmod 2755 s/d
        truncate -s 1M s/hole && tar czf a.tgz s && mkdir t && tar xpzf a.tgz -C t && tar dzf a.tgz -C t && rm s/p
        (cd s && zip -qry ../a.zip .) && unzip -q a.zip -d z && unzip -tqq a.zip && diff -r --no-dereference s z
        gzip -k s/a && gunzip -c s/a.gz | cmp - s/a && tar rf b.tar s/a && tar uf b.tar s && tar tf b.tar | sort
    """,
    "shells": """
        for i in 1 2 3 4; do
            (for j in $(seq 25); do
                echo $i.$j >> all; echo $j > $i.$j; mv $i.$j $i; (mkdir -p d; rmdir d; ls) &> /dev/null
            done) &
        done; wait; rm -rf d; cat 1 2 3 4; wc -l all; sort -u all | wc -l; ls
    """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_does_and_says_what_it_does_and_says_on_the_disk(
    drive: WritableMount, tmp_path: Path, script: str
) -> None:
    there = drive.folder / tmp_path.name
    told = []
    for folder in (there, tmp_path / "disk"):
        folder.mkdir()
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)
        told.append((done.returncode, (done.stdout + done.stderr).decode().replace(str(folder), "HERE")))
    assert told[0] == told[1]
    assert told[0][0] == 0
    assert names_in(there) == names_in(tmp_path / "disk")


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".git" not in path.parts)


def test_a_tree_with_hard_links_is_copied_without_them(drive: WritableMount, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    os.link(tmp_path / "a", tmp_path / "b")
    there = drive.folder / "unlinked"
    refused = subprocess.run(["cp", "-a", tmp_path, there], capture_output=True, text=True, check=False)
    assert "Operation not permitted" in refused.stderr
    run("cp", "-a", "--no-preserve=links", f"{tmp_path}/.", there)
    assert run("rsync", "-aAX", "--checksum", "--itemize-changes", f"{tmp_path}/", f"{there}/") == ""
    run("tar", "cf", there / "x.tar", "--hard-dereference", "-C", tmp_path, "a", "b")
    (there / "x").mkdir()
    run("tar", "xf", there / "x.tar", "-C", there / "x")
    assert [(folder / name).read_text() for folder in (there, there / "x") for name in "ab"] == ["content"] * 4


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


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[WritableMount]:
    """A mount in which nobody else has written anything that is still to be committed."""
    with writable_mount(tmp_path, "--flush-interval", "1") as mounted:
        yield mounted


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_appends_a_few_times_its_size_at_most(alone: WritableMount, mode: str) -> None:
    path = alone.folder / f"{mode}.db"
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute(f"pragma journal_mode={mode}")
        database.execute("create table rows(id integer primary key, value text)")
        for number in range(200 if mode == "delete" else 800):
            database.execute("insert into rows(value) values (?)", (f"row {number} " * 100,))
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    database.close()
    written = path.read_bytes()
    alone.unmount()
    assert alone.cat(path.name) == written
    copy = alone.folder.parent / f"{mode}.db"
    copy.write_bytes(written)
    with sqlite3.connect(copy) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    database.close()
    copies = sizes(alone)
    assert alone.hyperfs.json("info", alone.key)["content"]["bytes"] <= sum(copies)
    # The waits between two commits of it double from 1 s to 300 s, so that even in an hour there are few.
    assert sum(size >= SMALL_BYTES for size in copies) <= 24


def sizes(drive: WritableMount) -> list[int]:
    """Return the size of each file that any version put."""
    entries = map(json.loads, drive.hyperfs("log", drive.key, "--json", "-n", drive.version()).splitlines())
    return [entry["size"] for entry in entries if entry["action"] == "put"]


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
