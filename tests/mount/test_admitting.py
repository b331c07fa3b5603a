"""Where the kernel checks no permissions, because root alone may come, what acts for another user is refused."""

import errno
import os
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio

from hyperfs.mount.inodes import ROOT
from hyperfs.mount.operations import Operations
from hyperfs.mount.options import MountOptions
from hyperfs.mount.workspace_view import WorkspaceView
from tests.support.workspaces import Paths

NOBODY: Any = types.SimpleNamespace(uid=65534, gid=0)
NONE: Any = types.SimpleNamespace(
    **{f"update_{name}": False for name in ("mode", "uid", "gid", "mtime", "atime", "size")}
)

Ask = Callable[[Operations, Any], Awaitable[object]]

ASKED: dict[str, Ask] = {
    "access": lambda operations, context: operations.access(ROOT, os.X_OK, context),
    "opendir": lambda operations, context: operations.opendir(ROOT, context),
    "open": lambda operations, context: operations.open(ROOT, os.O_RDONLY, context),
    "readlink": lambda operations, context: operations.readlink(ROOT, context),
    "getxattr": lambda operations, context: operations.getxattr(ROOT, b"user.a", context),
    "listxattr": lambda operations, context: operations.listxattr(ROOT, context),
    "setxattr": lambda operations, context: operations.setxattr(ROOT, b"user.a", b"", context),
    "removexattr": lambda operations, context: operations.removexattr(ROOT, b"user.a", context),
    "create": lambda operations, context: operations.create(ROOT, b"a", 0o644, os.O_WRONLY, context),
    "mkdir": lambda operations, context: operations.mkdir(ROOT, b"a", 0o755, context),
    "symlink": lambda operations, context: operations.symlink(ROOT, b"a", b"b", context),
    "unlink": lambda operations, context: operations.unlink(ROOT, b"a", context),
    "rmdir": lambda operations, context: operations.rmdir(ROOT, b"a", context),
    "rename": lambda operations, context: operations.rename(ROOT, b"a", ROOT, b"b", 0, context),
    "setattr": lambda operations, context: operations.setattr(ROOT, pyfuse3.EntryAttributes(), NONE, None, context),
}


async def errno_of(operations: Operations, ask: Ask) -> int:
    """Return what it fails of, 0 when it does not."""
    try:
        await ask(operations, NOBODY)
    except pyfuse3.FUSEError as error:
        return error.errno
    return 0


@pytest.mark.parametrize("name", ASKED)
async def test_another_user_is_refused_where_nobody_else_checks(
    tmp_path: Path, nursery: trio.Nursery, name: str
) -> None:
    paths = await Paths.open(tmp_path)
    view = WorkspaceView(paths.own.drive, paths.workspace, paths.own.committer)
    assert (
        await errno_of(Operations(view, MountOptions(), nursery, checks_permissions=True), ASKED[name]) == errno.EACCES
    )
    assert await errno_of(Operations(view, MountOptions(), nursery), ASKED[name]) != errno.EACCES
