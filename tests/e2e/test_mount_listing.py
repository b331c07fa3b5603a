"""A folder that is changed while a program reads it, with a real kernel."""

import os
from pathlib import Path

import pytest

from tests.support.writable import writable_mount

MANY = 1500
"""So many names of this length take the kernel several questions."""


def test_what_went_while_its_folder_was_read_does_not_come_back(tmp_path: Path) -> None:
    with writable_mount(tmp_path) as mount:
        folder = mount.folder / "d"
        folder.mkdir()
        for number in range(MANY):
            (folder / f"f{number:05}-{'x' * 60}").touch()
        (folder / "index.lock").touch()
        (folder / "renamed.tmp").touch()
        with os.scandir(folder) as entries:
            next(entries)
            (folder / "index.lock").unlink()
            (folder / "renamed.tmp").rename(folder / "final")
            listed = {entry.name for entry in entries}
        assert len(listed) >= MANY - 1
        for name in ("index.lock", "renamed.tmp"):
            with pytest.raises(FileNotFoundError):
                os.stat(folder / name)
        assert (folder / "final").exists()
