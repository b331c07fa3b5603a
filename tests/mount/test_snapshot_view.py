"""A drive as a read-only tree of inodes, without FUSE."""

import errno
from pathlib import Path

import pytest

from hyperfs.drive.commits import entry
from hyperfs.drive.stat import Stat
from hyperfs.errors import PathError
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.snapshot_view import SnapshotView
from hyperfs.mount.view import View
from hyperfs.mount.workspace_view import WorkspaceView
from tests.support.drives import OwnDrive, new_drive
from tests.support.workspaces import Paths


async def number_of(view: View, path: str) -> int:
    number = ROOT
    for name in path.split("/"):
        number = (await view.lookup(number, name.encode())).number
    return number


async def with_links() -> OwnDrive:
    own = await new_drive()
    await own.writer.put_file("folder/deep/file", b"1")
    for name, target in (
        ("inside", "../folder/deep/file"),
        ("absolute", "/folder/deep/file"),
        ("outside", "../../etc/passwd"),
        ("aside", "deep/../../folder/deep/file"),
    ):
        await own.writer.symlink(f"folder/{name}", target)
    return own


SHOWN = {"inside": "../folder/deep/file", "absolute": "../folder/deep/file", "aside": "../folder/deep/file"}


@pytest.mark.parametrize("name", SHOWN)
async def test_a_link_of_somebody_elses_drive_leads_into_the_drive(name: str) -> None:
    own = await with_links()
    own.metadata.writable = False
    view = SnapshotView(own.drive)
    assert await view.link_target(await number_of(view, f"folder/{name}")) == SHOWN[name]


async def test_a_link_that_leads_out_of_somebody_elses_drive_leads_nowhere() -> None:
    own = await with_links()
    own.metadata.writable = False
    view = SnapshotView(own.drive)
    with pytest.raises(PathError) as caught:
        await view.link_target(await number_of(view, "folder/outside"))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("writable", [False, True])
async def test_a_link_is_shown_as_it_is_stored_when_that_is_wanted_or_the_drive_is_ours(writable: bool) -> None:
    own = await with_links()
    own.metadata.writable = writable
    view = SnapshotView(own.drive, confines_links=writable)
    assert await view.link_target(await number_of(view, "folder/outside")) == "../../etc/passwd"
    assert await view.link_target(await number_of(view, "folder/absolute")) == "/folder/deep/file"


async def test_what_is_no_link_has_no_target() -> None:
    own = await with_links()
    view = SnapshotView(own.drive)
    with pytest.raises(PathError) as caught:
        await view.link_target(await number_of(view, "folder/deep/file"))
    assert caught.value.errno == errno.EINVAL


async def test_a_link_in_somebody_elses_drive_that_is_mounted_in_ours_is_confined(tmp_path: Path) -> None:
    own = await new_drive()
    other = await new_drive(own.cores)
    await other.writer.symlink("out", "../../secret")
    await other.writer.symlink("absolute", "/file")
    await own.writer.mount("inner", other.drive.key)
    await own.writer.symlink("ours", "../../wherever")
    other.metadata.writable = False
    paths = await Paths.open(tmp_path, own)
    view = WorkspaceView(own.drive, paths.workspace, own.committer)
    assert await view.link_target(await number_of(view, "ours")) == "../../wherever"
    assert await view.link_target(await number_of(view, "inner/absolute")) == "file"
    with pytest.raises(PathError) as caught:
        await view.link_target(await number_of(view, "inner/out"))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("mode", [1 << 31 | 0o100644, 0xFFFFFFFF])
async def test_an_absurd_mode_harms_no_directory(mode: int) -> None:
    own = await new_drive()
    await own.writer.put_file("folder/good", b"1")
    await own.committer.commit([entry("folder/odd", Stat(mode))])
    view = SnapshotView(own.drive)
    assert (await view.lookup(await number_of(view, "folder"), b"odd")).number
    assert len(await view.list(await number_of(view, "folder"), lambda: None)) == 2
