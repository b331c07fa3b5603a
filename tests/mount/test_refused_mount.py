"""A mount that the kernel, or fusermount3, refuses."""

from pathlib import Path

import pytest

from hyperfs.errors import MountFailed
from hyperfs.mount.session import run_mount
from tests.support.drives import new_drive


async def test_a_refused_mount_is_one_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("fuse_session_mount failed")

    monkeypatch.setattr("pyfuse3.init", refuse)
    own = await new_drive()
    with pytest.raises(MountFailed, match="mounting was refused"):
        await run_mount(own.drive, tmp_path)
