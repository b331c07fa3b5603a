"""What a workspace answers and does at once, without waiting for the drive or for others."""

import errno
import stat as st
from pathlib import Path

import pytest

from hyperfs.errors import PathError
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


def make_now(paths: Paths, folder: int, name: str) -> Node | None:
    return paths.workspace.make_now(folder, name, st.S_IFREG | 0o644, uid=0, gid=0)


async def test_a_file_is_made_at_once_in_a_folder_that_was_looked_at(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    await paths.workspace.tree.touch(folder)
    assert make_now(paths, folder, "new") is not None
    assert (await paths.tree())["d/new"] == b""


async def test_nothing_is_made_at_once_while_names_are_being_changed(tmp_path: Path) -> None:
    paths, folder = await committed(tmp_path)
    await paths.workspace.tree.touch(folder)
    async with paths.workspace.exclusively():
        assert make_now(paths, folder, "new") is None
    assert "d/new" not in await paths.tree()


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
