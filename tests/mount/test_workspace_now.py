"""What a workspace answers and does at once, without waiting for the drive or for others."""

import errno
import stat as st
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperfs.errors import PathError
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.staging.nodes import Node
from tests.support.workspaces import Paths


async def committed(tmp_path: Path) -> tuple[Paths, int]:
    """A drive with a folder ``d`` that holds ``f``, which was looked at, and the folder's number."""
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", b"hello")
    await paths.commit()
    folder = await paths.number("d")
    assert await paths.workspace.find(folder, "f") is not None
    return paths, folder


def make_now(paths: Paths, folder: int, name: str, mode: int = st.S_IFREG | 0o644) -> Node | None:
    return paths.workspace.names.make_now(folder, name, mode, uid=0, gid=0)


async def test_a_file_is_made_at_once_in_a_folder_that_was_looked_at(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    await paths.workspace.tree.touch(folder)
    assert make_now(paths, folder, "new") is not None
    assert (await paths.tree())["d/new"] == b""


async def test_what_was_looked_at_is_changed_at_once(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    names = paths.workspace.names
    number = await paths.number("d/f")
    assert paths.workspace.set_attributes_now(number, mode=0o600) is not None
    assert names.rename_now(folder, "f", folder, "g") is True
    assert await paths.tree() == {"d": None, "d/g": b"hello"}
    assert names.unlink_now(folder, "g") == number
    assert await paths.tree() == {"d": None}
    made = make_now(paths, folder, "inner", st.S_IFDIR | 0o755)
    assert made is not None
    assert names.remove_directory_now(folder, "inner") == made.number


async def test_a_file_is_cut_off_at_once(tmp_path: Path) -> None:
    paths, _ = await committed(tmp_path)
    attributes = paths.workspace.set_attributes_now(await paths.number("d/f"), size=2)
    assert attributes is not None
    assert attributes.size == 2
    assert await paths.read("d/f") == b"he"


@pytest.mark.parametrize("change", ["make", "unlink", "remove", "rename", "set attributes"])
async def test_nothing_is_changed_at_once_while_names_are_being_changed(tmp_path: Path, change: str) -> None:
    paths, folder = await committed(tmp_path)
    names, number = paths.workspace.names, await paths.number("d/f")
    before = await paths.tree()
    changes: dict[str, Callable[[], object]] = {
        "make": lambda: make_now(paths, folder, "new"),
        "unlink": lambda: names.unlink_now(folder, "f"),
        "remove": lambda: names.remove_directory_now(ROOT, "d"),
        "rename": lambda: names.rename_now(folder, "f", folder, "g"),
        "set attributes": lambda: paths.workspace.set_attributes_now(number, mode=0o600),
    }
    async with paths.workspace.exclusively():
        assert changes[change]() is None
    assert await paths.tree() == before


@pytest.mark.parametrize("name", ["f", "staged"])
async def test_what_is_there_is_not_made_at_once_either(tmp_path: Path, name: str) -> None:
    paths, folder = await committed(tmp_path)
    await paths.put("d/staged", b"x")
    with pytest.raises(PathError) as raised:
        make_now(paths, folder, name)
    assert raised.value.errno == errno.EEXIST


async def test_nothing_is_made_at_once_in_a_folder_that_was_removed(tmp_path: Path) -> None:
    paths, _ = await committed(tmp_path)
    await paths.mkdir("gone")
    folder = await paths.number("gone")
    await paths.rmdir("gone")
    with pytest.raises(PathError) as raised:
        make_now(paths, folder, "new")
    assert raised.value.errno == errno.ENOENT


async def test_a_name_that_was_absent_is_found_once_something_was_renamed_to_it(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    assert await paths.workspace.find(folder, "new") is None
    await paths.rename("d/f", "d/new")
    assert await paths.workspace.find(folder, "new") is not None


async def test_a_name_that_was_absent_is_found_once_somebody_else_committed_it(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    assert await paths.workspace.find(folder, "new") is None
    await paths.own.writer.put_file("d/new", b"theirs")
    await paths.maker.rebase(paths.own.drive.snapshot())
    assert await paths.workspace.find(folder, "new") is not None


async def test_what_is_absent_is_known_at_once(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    found = paths.workspace.tree.child_now(folder, "absent")
    assert found is not None
    assert found.is_absent


async def test_what_is_only_read_is_let_go_of_when_it_is_closed(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    number = await paths.number("d/f")
    await paths.workspace.open(number, writing=False)
    assert number in paths.workspace.tree.nodes
    paths.workspace.released(number)
    assert not {number, folder} & paths.workspace.tree.nodes.keys()
    assert await paths.read("d/f") == b"hello"
