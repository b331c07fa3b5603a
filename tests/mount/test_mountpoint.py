"""A mount point is checked before it is used, and what is wrong with it is said."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from hyperfs.errors import MountFailed
from hyperfs.mount import mountpoint
from hyperfs.mount.options import MountOptions


def refusal(path: Path) -> MountFailed:
    with pytest.raises(MountFailed) as caught:
        mountpoint.prepare(str(path))
    return caught.value


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    assert mountpoint.prepare(str(tmp_path)) == str(tmp_path.resolve())


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert mountpoint.prepare(str(tmp_path / "link")) == str((tmp_path / "folder").resolve())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none")
    assert error.errno == errno.ENOENT
    assert str(tmp_path / "none") in str(error)


def test_a_file_is_not_a_mount_point(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file").errno == errno.ENOTDIR


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path).errno == errno.ENOTEMPTY


def test_a_machine_without_fuse_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "FUSE_DEVICE", tmp_path / "fuse")
    assert "no FUSE on this machine" in str(refusal(tmp_path))


def test_a_user_without_fusermount_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(mountpoint, "FUSERMOUNT", "no-such-program")
    assert "install the package fuse3" in str(refusal(tmp_path))


def test_a_user_who_may_not_let_others_in_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(mountpoint, "FUSERMOUNT", "sh")
    monkeypatch.setattr(mountpoint, "FUSE_CONFIGURATION", tmp_path / "fuse.conf")
    monkeypatch.setattr("os.access", lambda *_: True)
    (tmp_path / "fuse.conf").write_text("#user_allow_other\n")
    with pytest.raises(MountFailed, match="user_allow_other"):
        mountpoint.prepare(str(tmp_path), allow_other=True)


def test_a_folder_that_is_not_the_users_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(mountpoint, "FUSERMOUNT", "sh")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path / "inner")
    (tmp_path / "inner").mkdir()
    assert refusal(tmp_path / "inner").errno == errno.EACCES


def test_what_is_mounted_is_found_under_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(
        "22 1 0:40 / /mnt/a\\040b\\134c rw shared:5 - fuse.hyperfs x rw\n23 1 0:41 / /mnt rw - ext4 y rw\n"
    )
    monkeypatch.setattr(mountpoint, "_MOUNTINFO", tmp_path / "mountinfo")
    assert mountpoint.mounted_at("/mnt/a b\\c") == mountpoint.Mounted("0:40", "fuse.hyperfs", "x")
    assert mountpoint.mounted_at("/mnt/other") is None


@pytest.mark.parametrize("options", [{"uid": -1}, {"gid": 0xFFFFFFFF}, {"umask": 0o10000}, {"timeout_seconds": 0}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"not between|more than 0"):
        MountOptions(**options)  # type: ignore[arg-type]  # wrong on purpose


def test_a_folder_to_mount_at_is_held_and_not_found_again_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    folder = mountpoint.Folder(str(tmp_path / "folder"))
    (tmp_path / "folder").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").symlink_to("elsewhere")
    assert Path(folder.path).resolve() == tmp_path / "moved"
    folder.close()


@pytest.mark.parametrize("path", ["link", "link/folder"])
def test_a_path_in_which_something_became_a_link_is_not_mounted_at(tmp_path: Path, path: str) -> None:
    (tmp_path / "other/folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(MountFailed, match="mount again"):
        mountpoint.Folder(str(tmp_path / path))


def test_what_is_no_drives_mount_is_not_unmounted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "folder"], check=True)
    try:
        mountpoint.unmount(str(tmp_path / "folder"), bytes(32))
        mountpoint.unmount_lazily(str(tmp_path / "folder"))
        assert not mountpoint.take_away_dead(str(tmp_path / "folder"))
        assert os.path.ismount(tmp_path / "folder")
    finally:
        subprocess.run(["umount", tmp_path / "folder"], check=True)


def test_who_has_something_open_in_a_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "folder beside it").touch()
    with (tmp_path / "folder beside it").open():
        assert mountpoint.processes_in(str(folder)) == []
    with (folder / "file").open("w"):
        assert mountpoint.processes_in(str(folder)) == [os.getpid()]
    assert mountpoint.processes_in(str(folder)) == []


def test_who_is_in_a_folder_is_found(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert mountpoint.processes_in(str(tmp_path)) == [process.pid]
        process.communicate()
