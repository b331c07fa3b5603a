"""Copying a drive into a folder, and never anywhere else."""

import errno
import os
import stat as st
from pathlib import Path

import pytest
import trio
import trio.testing

from hyperfs.drive import folder, names
from hyperfs.drive.exporter import export
from hyperfs.drive.folder import TargetFolder
from hyperfs.drive.import_plan import Compare, plan_import
from hyperfs.drive.importer import Progress, run_import
from hyperfs.drive.stat import MountTarget, Stat, encode_stat
from hyperfs.errors import PathError
from hyperfs.trie import Put
from tests.support.drives import OwnDrive, new_drive

BIG = bytes(range(256)) * 20_000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def links(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_symlink()]


def make_directory(path: Path) -> None:
    path.mkdir()


async def sample() -> OwnDrive:
    own = await new_drive()
    await own.writer.put_file("a/b/c.txt", b"hello", mode=0o640, mtime=1_000_000_123, attributes={"user.x": b"y"})
    await own.writer.make_directory("empty", mode=0o500)
    await own.writer.symlink("link", "a/b/c.txt")
    await own.writer.put_file("big", BIG, mtime=2_000_000_456)
    return own


async def test_what_is_exported_can_be_imported_without_a_change(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d" / "e").mkdir(parents=True)
    (source / "d" / "e" / "f").write_bytes(b"x")
    (source / "l").symlink_to("nowhere")
    os.utime(source / "d", ns=(0, 10**15))
    own = await new_drive()

    await run_import(await plan_import(own.drive.snapshot(), source), own.committer)
    await export(own.drive.snapshot(), target)
    assert (await plan_import(own.drive.snapshot(), target, delete=True)).is_empty


async def test_content_modes_times_links_and_attributes_arrive(target: Path) -> None:
    own = await sample()
    result = await export(own.drive.snapshot(), target)
    assert (result.files, result.skipped) == (3, ())
    assert (target / "big").read_bytes() == BIG
    assert (target / "a/b/c.txt").read_bytes() == b"hello"
    status = (target / "a/b/c.txt").stat()
    assert (st.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 1_000_000_123_000_000)
    assert st.S_IMODE((target / "empty").stat().st_mode) == 0o500
    assert os.readlink(target / "link") == "a/b/c.txt"
    assert os.getxattr(target / "a/b/c.txt", "user.x") == b"y"
    assert not [path for path in tree(target) if names.PART_PREFIX in path]


async def test_a_second_export_copies_nothing(target: Path) -> None:
    own = await sample()
    await export(own.drive.snapshot(), target)
    result = await export(own.drive.snapshot(), target)
    assert (result.files, result.byte_count, result.unchanged) == (0, 0, 3)


async def test_an_interrupted_export_goes_on_where_it_was(target: Path) -> None:
    own = await sample()
    own.content.take_away(own.content.length - 1)
    await export(own.drive.snapshot(), target)
    entry = await own.drive.snapshot().stat("big")
    identity = own.drive.key + entry.seq.to_bytes(8, "big") + len(BIG).to_bytes(8, "big")
    (target / folder.part_name("big", identity)).write_bytes(BIG[: 4 << 20])
    own.content.put_back()
    result = await export(own.drive.snapshot(), target)
    assert result.byte_count <= len(BIG) - (4 << 20) + 5
    assert (target / "big").read_bytes() == BIG


async def test_what_a_power_cut_left_of_a_part_is_not_believed(target: Path) -> None:
    own = await sample()
    entry = await own.drive.snapshot().stat("big")
    identity = own.drive.key + entry.seq.to_bytes(8, "big") + len(BIG).to_bytes(8, "big")
    make_directory(target)
    (target / folder.part_name("big", identity)).write_bytes(bytes(len(BIG)))
    await export(own.drive.snapshot(), target)
    assert (target / "big").read_bytes() == BIG


async def test_a_file_gets_its_name_after_its_bytes_are_on_the_disk(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = await sample()
    await own.writer.put_file("a/b/empty")
    on_disk: dict[int, int] = {}
    named: list[str] = []
    fdatasync, rename = os.fdatasync, os.rename

    def note_sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        on_disk[status.st_ino] = status.st_size
        fdatasync(descriptor)

    def note_rename(source: str, name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        status = os.stat(source, dir_fd=src_dir_fd, follow_symlinks=False)
        if st.S_ISREG(status.st_mode):
            assert on_disk[status.st_ino] == status.st_size
            named.append(name)
        rename(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fdatasync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    await export(own.drive.snapshot(), target)
    assert sorted(named) == ["big", "c.txt", "empty"]


@pytest.mark.parametrize(("call", "what"), [("setxattr", "attribute 'user.x'"), ("fchmod", "mode"), ("utime", "time")])
async def test_what_cannot_be_set_is_told_and_costs_no_content(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str, what: str
) -> None:
    own = await new_drive()
    await own.writer.put_file("small", b"hello", attributes={"user.x": b"y"})
    await own.writer.put_file("big", BIG, attributes={"user.x": b"y"})

    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, call, refuse)
    result = await export(own.drive.snapshot(), target)
    assert ((target / "small").read_bytes(), (target / "big").read_bytes()) == (b"hello", BIG)
    told = {skipped.path: skipped.reason for skipped in result.skipped}
    assert told == dict.fromkeys(("small", "big"), f"only its {what}: Operation not permitted")
    assert result.files == 2


@pytest.mark.parametrize("call", ["fdatasync", "ftruncate"])
async def test_a_file_whose_bytes_may_not_be_on_the_disk_does_not_get_its_name(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"new")
    make_directory(target)
    (target / "f").write_bytes(b"before")

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        await export(own.drive.snapshot(), target)
    assert (target / "f").read_bytes() == b"before"
    assert tree(target) == ["f"]


async def test_of_a_large_file_that_the_disk_refused_nothing_is_gone_on_with(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written once counts as clean to the kernel, and is read as if it were there."""
    own = await sample()

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            await export(own.drive.snapshot(), target, path="big")
    assert tree(target) == []
    assert (await export(own.drive.snapshot(), target, path="big")).byte_count == len(BIG)


async def block_of(own: OwnDrive, path: str) -> int:
    return (await own.drive.snapshot().stat(path)).stat.offset


class TestWhatNobodyHas:
    async def test_a_small_file_is_left_out_and_told(self, target: Path) -> None:
        own = await sample()
        own.content.take_away(await block_of(own, "a/b/c.txt"))
        result = await export(own.drive.snapshot(), target)
        assert [one.path for one in result.skipped] == ["a/b/c.txt"]
        assert (target / "big").read_bytes() == BIG

    async def test_the_small_files_beside_it_are_written(self, target: Path) -> None:
        own = await new_drive()
        for name in "abc":
            await own.writer.put_file(name, name.encode())
        own.content.take_away(await block_of(own, "b"))
        result = await export(own.drive.snapshot(), target)
        assert (tree(target), [one.path for one in result.skipped]) == (["a", "c"], ["b"])

    async def test_a_large_file_is_left_out_and_told(self, target: Path) -> None:
        own = await sample()
        own.content.take_away(own.content.length - 1)
        result = await export(own.drive.snapshot(), target)
        assert [one.path for one in result.skipped] == ["big"]
        assert (target / "a/b/c.txt").read_bytes() == b"hello"

    async def test_nothing_of_it_stands_under_its_name(self, target: Path) -> None:
        own = await sample()
        own.content.take_away(own.content.length - 1, await block_of(own, "a/b/c.txt"))
        await export(own.drive.snapshot(), target)
        assert not (target / "big").exists()
        assert not (target / "a/b/c.txt").exists()

    async def test_a_folder_that_cannot_be_listed_is_left_out_and_told(self, target: Path) -> None:
        inner = await new_drive()
        await inner.writer.put_file("f", b"inner")
        own = await new_drive(inner.cores)
        await own.writer.mount("m", inner.drive.key)
        await own.writer.put_file("z", b"outer")
        inner.metadata.take_away(1)
        result = await export(own.drive.snapshot(), target)
        assert [one.path for one in result.skipped] == ["m"]
        assert (target / "z").read_bytes() == b"outer"

    async def test_as_long_as_something_comes_it_is_asked_again(self, target: Path) -> None:
        own = await new_drive()
        for name in "abc":
            await own.writer.put_file(name, name.encode())
        own.content.take_away(0, 1, 2)
        own.content.is_far = True
        own.content.brings_at_once = 1
        result = await export(own.drive.snapshot(), target)
        assert (tree(target), result.skipped) == (["a", "b", "c"], ())

    async def test_what_comes_too_late_once_nothing_came_is_not_waited_for(
        self, target: Path, patient_clock: trio.testing.MockClock
    ) -> None:
        own = await sample()
        own.content.take_away(*range(own.content.length))
        own.content.silent_seconds = 30
        began = trio.current_time()
        result = await export(own.drive.snapshot(), target)
        assert len(result.skipped) == 2
        assert trio.current_time() - began < 40


async def test_equal_size_and_time_is_looked_into_by_checksum(target: Path) -> None:
    own = await sample()
    await export(own.drive.snapshot(), target)
    for path, damaged in ((target / "a/b/c.txt", b"HELLO"), (target / "big", bytes(len(BIG)))):
        times = path.stat()
        path.write_bytes(damaged)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (await export(own.drive.snapshot(), target)).files == 0
    result = await export(own.drive.snapshot(), target, compare=Compare.CHECKSUM)
    assert (result.files, result.unchanged) == (2, 1)
    assert (target / "big").read_bytes() == BIG
    assert (target / "a/b/c.txt").read_bytes() == b"hello"


async def test_equal_content_gets_the_drives_times_when_compared_by_checksum(target: Path) -> None:
    own = await sample()
    await export(own.drive.snapshot(), target)
    for name in ("a/b/c.txt", "big"):
        os.utime(target / name, ns=(0, 0))
    result = await export(own.drive.snapshot(), target, compare=Compare.CHECKSUM)
    assert (result.files, result.unchanged) == (0, 3)
    assert [(target / name).stat().st_mtime_ns for name in ("a/b/c.txt", "big")] == [
        1_000_000_123_000_000,
        2_000_000_456_000_000,
    ]


async def test_a_part_of_a_drive_can_be_exported(target: Path) -> None:
    own = await sample()
    await export(own.drive.snapshot(), target, path="/a/")
    assert tree(target) == ["b", "b/c.txt"]


async def test_one_file_can_be_exported(target: Path) -> None:
    own = await sample()
    await export(own.drive.snapshot(), target, path="a/b/c.txt")
    assert tree(target) == ["c.txt"]


async def test_a_path_that_is_not_there_is_an_error(target: Path) -> None:
    own = await sample()
    with pytest.raises(PathError):
        await export(own.drive.snapshot(), target, path="missing")


async def test_progress_ends_with_everything(target: Path) -> None:
    own = await sample()
    told: list[Progress] = []
    await export(own.drive.snapshot(), target, on_progress=told.append)
    assert told[-1].byte_count == len(BIG) + 5


async def test_mounted_drives_are_exported_and_a_loop_is_told(target: Path) -> None:
    inner = await new_drive()
    await inner.writer.put_file("f", b"inner")
    own = await new_drive(inner.cores)
    await own.writer.mount("m", inner.drive.key)
    await own.writer.mount("self", own.drive.key)
    result = await export(own.drive.snapshot(), target)
    assert (target / "m/f").read_bytes() == b"inner"
    assert [skipped.path for skipped in result.skipped] == ["self"]


class TestFollowedLinks:
    """What a link leads to inside the drive is copied in its place."""

    async def export(self, own: OwnDrive, target: Path, path: str = "") -> list[str]:
        """Export, and return the paths of what was left out."""
        result = await export(own.drive.snapshot(), target, path=path, follow_links=True)
        assert not links(target)
        return [skipped.path for skipped in result.skipped]

    async def test_a_file_and_a_directory(self, target: Path) -> None:
        own = await new_drive()
        await own.writer.put_file("dir/file", b"x")
        await own.writer.symlink("to-dir", "dir")
        await own.writer.symlink("dir/rooted", "/dir/file")
        assert await self.export(own, target) == []
        assert tree(target) == ["dir", "dir/file", "dir/rooted", "to-dir", "to-dir/file", "to-dir/rooted"]
        assert (target / "to-dir/rooted").read_bytes() == b"x"

    async def test_one_that_leads_nowhere_or_out_is_told(self, target: Path) -> None:
        own = await new_drive()
        await own.writer.symlink("out", "/../../etc/passwd")
        await own.writer.symlink("absent", "nothing")
        await own.writer.symlink("loop", "loop")
        assert sorted(await self.export(own, target)) == ["absent", "loop", "out"]
        assert tree(target) == []

    async def test_one_into_a_drive_that_is_none_is_told_and_costs_nothing_else(self, target: Path) -> None:
        own = await new_drive()
        other = own.cores.create()
        await other.append([b"no header"])
        await own.writer.mount("mounted", other.key)
        await own.writer.symlink("link", "mounted/file")
        await own.writer.put_file("file", b"x")
        assert sorted(await self.export(own, target)) == ["link", "mounted"]
        assert (target / "file").read_bytes() == b"x"

    async def test_one_that_leads_to_a_directory_it_is_in_is_told(self, target: Path) -> None:
        own = await new_drive()
        await own.writer.symlink("a/up", "..")
        await own.writer.symlink("a/self", ".")
        await own.writer.symlink("a/b/round", "../../c")
        await own.writer.symlink("c/round", "../a/b")
        told = await self.export(own, target)
        assert sorted(told) == ["a/b/round", "a/self", "a/up", "c/round"]
        assert tree(target) == ["a", "a/b", "a/b/round", "c", "c/round"]

    async def test_a_path_may_lead_through_one(self, target: Path) -> None:
        own = await new_drive()
        await own.writer.put_file("dir/file", b"x")
        await own.writer.symlink("way", "dir")
        await own.writer.symlink("dir/other", "file")
        assert await self.export(own, target, "way/other") == []
        assert (target / "other").read_bytes() == b"x"


class TestHostileDrives:
    """Nothing outside of the target is ever written."""

    async def test_names_that_lead_out_are_left_out(self, target: Path, tmp_path: Path) -> None:
        own = await new_drive()
        stat = await own.writer.put_file("fine", b"x")
        for key in ("../evil", "a/../../evil", "..\\evil", "d/\0evil", "d//evil"):
            await own.commit(Put(key, encode_stat(stat)))
        await export(own.drive.snapshot(), target)
        assert tree(tmp_path) == ["target", "target/a", "target/d", "target/fine"]

    async def test_a_link_and_children_below_it(self, target: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        own = await new_drive()
        stat = await own.writer.put_file("x", b"x")
        await own.writer.symlink("way", str(outside))
        await own.commit(Put("way/evil", encode_stat(stat)))
        await export(own.drive.snapshot(), target)
        assert tree(outside) == []

    async def test_a_link_in_the_target_is_not_followed(self, target: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        make_directory(target)
        (target / "d").symlink_to(outside)
        own = await new_drive()
        await own.writer.put_file("d/evil", b"x")
        result = await export(own.drive.snapshot(), target)
        assert tree(outside) == []
        assert [skipped.path for skipped in result.skipped] == ["d"]

    async def test_a_link_in_place_of_a_file_is_replaced(self, target: Path, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(b"untouched")
        make_directory(target)
        (target / "f").symlink_to(victim)
        own = await new_drive()
        await own.writer.put_file("f", b"x")
        await export(own.drive.snapshot(), target)
        assert (victim.read_bytes(), (target / "f").read_bytes()) == (b"untouched", b"x")
        assert not (target / "f").is_symlink()

    @pytest.mark.parametrize("kind", ["symlink", "hard link"])
    async def test_what_waits_under_the_name_of_a_part_is_not_written_through(
        self, target: Path, tmp_path: Path, kind: str
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(b"untouched")
        make_directory(target)
        part = target / folder.part_name("f", b"")
        if kind == "symlink":
            part.symlink_to(victim)
        else:
            part.hardlink_to(victim)
        own = await new_drive()
        await own.writer.put_file("f", b"x")
        await export(own.drive.snapshot(), target)
        assert (victim.read_bytes(), (target / "f").read_bytes()) == (b"untouched", b"x")

    async def test_a_link_with_a_target_that_no_link_can_have_is_told(self, target: Path) -> None:
        own = await new_drive()
        await own.writer.symlink("nul", "a\0b")
        await own.writer.symlink("empty", "")
        await own.writer.symlink("fine", "x")
        result = await export(own.drive.snapshot(), target)
        assert (tree(target), sorted(one.path for one in result.skipped)) == (["fine"], ["empty", "nul"])

    async def test_a_file_with_the_name_of_another_ones_part_is_told(self, target: Path) -> None:
        own = await new_drive()
        await own.writer.put_file("f", b"x")
        await own.writer.put_file(folder.part_name("f", b""), b"evil")
        result = await export(own.drive.snapshot(), target)
        assert (tree(target), len(result.skipped)) == (["f"], 1)

    async def test_a_file_that_is_a_core_of_no_key_is_left_out(self, target: Path) -> None:
        own = await new_drive()
        await own.commit(Put("core", encode_stat(Stat(0o100644, size=5, mount=MountTarget(b"short", is_core=True)))))
        await own.writer.put_file("file", b"x")
        await export(own.drive.snapshot(), target)
        assert tree(target) == ["file"]

    async def test_set_id_bits_and_devices_are_not_taken(self, target: Path) -> None:
        own = await new_drive()
        await own.writer.put_file("s", b"x", mode=0o6755)
        await own.commit(Put("dev", encode_stat(Stat(st.S_IFBLK | 0o666))))
        result = await export(own.drive.snapshot(), target)
        assert st.S_IMODE((target / "s").stat().st_mode) == 0o755
        assert [skipped.path for skipped in result.skipped] == ["dev"]

    async def test_a_directory_in_place_of_a_file_is_told(self, target: Path) -> None:
        (target / "f").mkdir(parents=True)
        own = await new_drive()
        await own.writer.put_file("f", b"x")
        result = await export(own.drive.snapshot(), target)
        assert [skipped.path for skipped in result.skipped] == ["f"]
        assert tree(target) == ["f"]

    def test_no_step_leads_above(self, target: Path) -> None:
        below = TargetFolder(target)
        with pytest.raises(PathError), below.directory("../x", make=True):
            pass
        below.close()
