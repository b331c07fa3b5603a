"""A live mount shows each new version, and tells the kernel exactly what that changes; a checkout stays what it is."""

import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.mounts import DEADLINE_SECONDS, Mounted, comes_true

PREPARE = """
async with own.writer.batch() as batch:
    await batch.put_file("log", b"one\\n")
    await batch.put_file("folder/a", b"aaaa")
    await batch.put_file("folder/b", b"bbbb")
    await batch.put_file("other/x", b"x")
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mount:
        yield mount


def test_a_new_file_appears_where_none_was_seen(mounted: Mounted) -> None:
    path = mounted.path / "folder/new"
    assert not path.exists()
    mounted.run('await own.writer.put_file("folder/new", b"new")')
    assert comes_true(path.exists)
    assert path.read_bytes() == b"new"


def test_a_new_folder_appears_with_what_implies_it(mounted: Mounted) -> None:
    path = mounted.path / "deep/er/still"
    assert not (mounted.path / "deep").exists()
    mounted.run('await own.writer.put_file("deep/er/still", b"new")')
    assert comes_true(path.exists)


def test_a_deleted_file_goes(mounted: Mounted) -> None:
    path = mounted.path / "folder/a"
    assert path.exists()
    mounted.run('await own.writer.delete("folder/a")')
    assert comes_true(lambda: not path.exists())
    assert os.listdir(mounted.path / "folder") == ["b"]


def test_a_folder_goes_with_the_last_path_that_implied_it(mounted: Mounted) -> None:
    assert (mounted.path / "other").is_dir()
    mounted.run('await own.writer.delete("other/x")')
    assert comes_true(lambda: not (mounted.path / "other").exists())


def test_changed_bytes_of_the_same_size_and_time_are_seen(mounted: Mounted) -> None:
    path = mounted.path / "log"
    assert path.read_bytes() == b"one\n"
    mounted.run('await own.writer.put_file("log", b"two\\n")')
    assert comes_true(lambda: path.read_bytes() == b"two\n")


def test_an_open_file_follows_a_growing_one(mounted: Mounted) -> None:
    with (mounted.path / "log").open("rb") as file:
        assert file.read() == b"one\n"
        mounted.run('await own.writer.put_file("log", b"one\\ntwo\\n")')
        assert comes_true(lambda: os.fstat(file.fileno()).st_size == 8)
        assert file.read() == b"two\n"


def test_a_mapping_follows_a_change(mounted: Mounted) -> None:
    with (mounted.path / "log").open("rb") as file, mmap.mmap(file.fileno(), 4, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == b"one\n"
        mounted.run('await own.writer.put_file("log", b"two\\n")')
        assert comes_true(lambda: mapped[:] == b"two\n")


def test_tail_follows(mounted: Mounted) -> None:
    with subprocess.Popen(
        ["tail", "-s", "0.1", "-n", "+1", "-f", mounted.path / "log"], stdout=subprocess.PIPE
    ) as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline() == b"one\n"
        mounted.run('await own.writer.put_file("log", b"one\\ntwo\\n")')
        assert tail.stdout.readline() == b"two\n"
        tail.kill()


def test_an_open_file_that_is_deleted_lives_on(mounted: Mounted) -> None:
    with (mounted.path / "folder/a").open("rb") as file:
        mounted.run('await own.writer.delete("folder/a")')
        assert comes_true(lambda: not (mounted.path / "folder/a").exists())
        assert file.read() == b"aaaa"


def test_a_file_can_become_a_folder_and_back(mounted: Mounted) -> None:
    path = mounted.path / "log"
    assert path.is_file()
    mounted.run('await own.writer.delete("log"); await own.writer.put_file("log/inner", b"x")')
    assert comes_true(path.is_dir)
    mounted.run('await own.writer.delete("log/inner"); await own.writer.put_file("log", b"x")')
    assert comes_true(path.is_file)


def test_a_link_can_lead_elsewhere(mounted: Mounted) -> None:
    path = mounted.path / "link"

    def is_read(content: bytes) -> bool:
        with suppress(FileNotFoundError):  # between its removal and its return there is a version without it
            return path.is_symlink() and path.read_bytes() == content
        return False

    mounted.run('await own.writer.symlink("link", "folder/a")')
    assert comes_true(lambda: is_read(b"aaaa"))
    mounted.run('await own.writer.delete("link"); await own.writer.symlink("link", "folder/b")')
    assert comes_true(lambda: is_read(b"bbbb"))


def test_who_works_in_a_folder_that_changes_stays_in_it(mounted: Mounted) -> None:
    command = ["sh", "-c", "cd folder && echo in && read _ && pwd && cat new"]
    with subprocess.Popen(command, cwd=mounted.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"in\n"
        mounted.run('await own.writer.put_file("folder/new", b"new")')
        assert comes_true((mounted.path / "folder/new").exists)
        output, _ = shell.communicate(b"\n", timeout=DEADLINE_SECONDS)
    assert output.decode() == f"{mounted.path}/folder\nnew"


def test_changed_attributes_are_seen(mounted: Mounted) -> None:
    path = mounted.path / "log"
    assert path.read_bytes() == b"one\n"
    mounted.run('await own.writer.set_stat("log", mode=0o100600)')
    assert comes_true(lambda: path.stat().st_mode == 0o100600)
    assert path.read_bytes() == b"one\n"


def test_what_did_not_change_is_not_asked_for_again(mounted: Mounted) -> None:
    paths = [mounted.path / name for name in ("folder/a", "folder/b")]
    with ExitStack() as held:
        for path in paths:  # open, or the kernel may forget what it knows of them when it needs the memory
            held.callback(os.close, os.open(path, os.O_PATH))
            path.stat()
        mounted.run(COUNT_QUESTIONS)
        mounted.run('await own.writer.put_file("other/y", b"y")')
        assert comes_true((mounted.path / "other/y").exists)
        mounted.run("state['asked'].clear()")
        for path in paths:
            path.stat()
        assert not any(path.startswith("folder") for path in mounted.run("return state['asked']"))


def test_many_changes_at_once_are_all_seen(mounted: Mounted) -> None:
    (mounted.path / "folder").stat()
    names = [f"file-{number}" for number in range(2000)]
    assert not any((mounted.path / "folder" / name).exists() for name in names)
    mounted.run(
        "async with own.writer.batch() as batch:\n"
        " for number in range(2000): await batch.put_file(f'folder/file-{number}', b'x')"
    )
    assert comes_true((mounted.path / "folder/file-1999").exists)
    assert comes_true(lambda: all((mounted.path / "folder" / name).exists() for name in names))


def test_an_inner_drive_is_followed(mounted: Mounted) -> None:
    mounted.run("from tests.support.drives import new_drive\nstate['inner'] = await new_drive(cores)")
    mounted.run("await state['inner'].writer.put_file('in', b'1')")
    mounted.run("await own.writer.mount('inner', state['inner'].drive.key)")
    path = mounted.path / "inner/in"
    assert comes_true(lambda: path.exists() and path.read_bytes() == b"1")
    mounted.run("await state['inner'].writer.put_file('in', b'2')")
    assert comes_true(lambda: path.read_bytes() == b"2")


def test_a_version_that_cannot_be_read_yet_is_not_switched_to(mounted: Mounted) -> None:
    assert (mounted.path / "folder/a").exists()
    mounted.run(APPEND_WITHOUT_BLOCKS)
    assert (mounted.path / "folder/a").read_bytes() == b"aaaa"
    assert (mounted.path / "other/x").read_bytes() == b"x"
    mounted.run("own.metadata.put_back()")
    assert comes_true(lambda: (mounted.path / "folder/a").read_bytes() == b"newer")


def test_a_checkout_stays_what_it_is(tmp_path: Path) -> None:
    prepare = PREPARE + "\nstate['version'] = own.drive.version\nawait own.writer.put_file('log', b'two')\n"
    with Mounted(tmp_path / "drive", prepare=prepare, version=5) as mounted:
        assert (mounted.path / "log").read_bytes() == b"one\n"
        mounted.run("await own.writer.delete('folder/a')")
        assert sorted(os.listdir(mounted.path / "folder")) == ["a", "b"]
        assert mounted.run("return operations.view.snapshot.version") == 5


def test_a_live_drive_inside_a_checkout_is_followed(tmp_path: Path) -> None:
    prepare = """
from tests.support.drives import new_drive
inner = state["inner"] = await new_drive(cores)
await inner.writer.put_file("in", b"1")
await own.writer.put_file("x", b"1")
await own.writer.mount("inner", inner.drive.key)
"""
    with Mounted(tmp_path / "drive", prepare=prepare, version=4) as mounted:
        assert (mounted.path / "inner/in").read_bytes() == b"1"
        mounted.run("await state['inner'].writer.put_file('in', b'22'); await own.writer.delete('x')")
        assert comes_true(lambda: (mounted.path / "inner/in").read_bytes() == b"22")
        assert (mounted.path / "x").exists()


COUNT_QUESTIONS = """
asked = state["asked"] = []
view = operations.view
lookup, attributes = view.lookup_now, view.attributes_now
def noting_lookup(parent, name):
    asked.append(b"/".join(filter(None, (view.inodes.path(parent), name))).decode())
    return lookup(parent, name)
def noting_attributes(number):
    asked.append(view.inodes.path(number).decode())
    return attributes(number)
view.lookup_now, view.attributes_now = noting_lookup, noting_attributes
"""

APPEND_WITHOUT_BLOCKS = """
append = own.metadata.append
async def append_and_take_away(blocks, **more):
    first = await append(blocks, **more)
    own.metadata.take_away(*range(first, first + len(blocks)))
own.metadata.append = append_and_take_away
await own.writer.put_file("folder/a", b"newer")
own.metadata.append = append
"""
