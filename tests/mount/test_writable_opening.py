"""Opening what nothing is staged of in a writable mount, without a kernel."""

import os
from pathlib import Path

import pyfuse3
import pytest
import trio

from hyperfs.mount.operations import Operations
from hyperfs.mount.options import MountOptions
from hyperfs.mount.workspace_view import WorkspaceView
from tests.support.workspaces import Paths

REGULAR = 0o10


def view_of(paths: Paths) -> WorkspaceView:
    return WorkspaceView(paths.own.drive, paths.workspace, paths.own.committer)


async def test_a_file_that_a_listing_told_of_is_not_taken_up(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(pyfuse3, "notify_store", lambda number, _, data: given.append((number, data)))
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"hello")
    await paths.commit()
    await paths.workspace.tree.sweep(paths.workspace.exclusively)
    await paths.workspace.tree.snapshot.stat("f")
    operations = Operations(view_of(paths), MountOptions(), nursery)
    number = operations.view.inodes.remember(pyfuse3.ROOT_INODE, b"f", REGULAR)
    await operations.open(number, os.O_RDONLY, pyfuse3.RequestContext())
    assert number not in paths.workspace.tree.nodes
    assert given == [(number, b"hello")]
