"""Space that comes back, keys that are saved, and drives that were written in two places: in real processes."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, eventually, hyperfs_in
from ..support.disks import fill, small_disk
from ..support.writable import WritableMount

MIB = 1 << 20


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path, "own") as commands:
        yield commands


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path, "other") as commands:
        yield commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    fill_folder(folder)
    return folder


def fill_folder(folder: Path) -> None:
    folder.mkdir()
    (folder / "kept").write_bytes(os.urandom(MIB))
    (folder / "changing").write_bytes(os.urandom(2 * MIB))
    (folder / "going").write_bytes(os.urandom(3 * MIB))


def change(folder: Path) -> None:
    (folder / "changing").write_bytes(os.urandom(MIB))
    (folder / "going").unlink()


def data_bytes(hyperfs: Hyperfs) -> int:
    """Return how many bytes the blocks in a store take on the disk."""
    return sum(file.stat().st_blocks * 512 for file in hyperfs.store.glob("??/??/*/data"))


@dataclass(frozen=True, slots=True)
class Made:
    """Stores that nobody uses: ``own`` has a drive of ``folder``, and ``other`` all of its newest version."""

    own: Path
    other: Path
    folder: Path
    key: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp("made")
    folder = directory / "folder"
    fill_folder(folder)
    with hyperfs_in(directory, "own") as own, hyperfs_in(directory, "other") as other:
        key = own.imported(folder)
        own("tag", key, "v1")
        change(folder)
        own("import", "--delete", folder, key)
        other("export", key, directory / "first", "--peer", served(own, key))
        own("unserve", key)
        own("stop")
        other("stop")
    return Made(own.store, other.store, folder, key)


@pytest.fixture
def pruned(own: Hyperfs, folder: Path, made: Made) -> str:
    """A drive that has old content to lose; its first version with everything is tagged v1."""
    take_over(made.own, own.store)
    shutil.rmtree(folder)
    take_over(made.folder, folder)
    return made.key


def take_over(directory: Path, copy: Path) -> None:
    """Copy a directory as it is: with its holes, and with the times by which an import knows what has changed."""
    subprocess.run(["cp", "-a", "--sparse=always", directory, copy], check=True)


# prune


def test_prune_frees_the_space_of_what_no_kept_version_shows(own: Hyperfs, pruned: str, folder: Path) -> None:
    before = data_bytes(own)
    told = own.json("prune", pruned, "--keep", "1", "--yes")
    assert (told["files"], told["bytes"], told["cleared"]) == (2, 5 * MIB, True)
    assert before - data_bytes(own) >= 5 * MIB
    own("export", pruned, folder.parent / "copy")
    subprocess.run(["diff", "-r", folder, folder.parent / "copy"], check=True)


def test_prune_tells_what_goes_and_asks_first(own: Hyperfs, pruned: str) -> None:
    done = own.run("prune", pruned, "--keep", "1")
    assert done.returncode == 2
    assert "say --yes" in done.stderr.decode()
    assert "goes: 2 files (5.0 MiB) that only the" in done.stdout.decode()
    assert own.json("info", pruned)["content"]["blocks"] == own.json("info", pruned)["content"]["blocks_here"]


def test_prune_without_a_terminal_takes_no_answer_from_a_pipe(own: Hyperfs, pruned: str) -> None:
    answer, write = os.pipe()
    os.write(write, b"y\n")
    os.close(write)
    own.fails("prune", pruned, "--keep", "1", status=2, stdin=answer)
    os.close(answer)


def test_a_dry_run_clears_nothing(own: Hyperfs, pruned: str) -> None:
    before = data_bytes(own)
    assert own.json("prune", pruned, "--keep", "1", "--dry-run")["cleared"] is False
    assert data_bytes(own) == before


def test_prune_keeps_tagged_versions(own: Hyperfs, pruned: str) -> None:
    assert own.json("prune", pruned, "--keep", "tags", "--yes")["files"] == 0
    assert len(own.run("cat", f"{pruned}+v1", "going").stdout) == 3 * MIB


def test_prune_keeps_what_is_mounted(own: Hyperfs, pruned: str, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    own("mount", f"{pruned}+v1", tmp_path / "mounted")
    assert own.json("prune", pruned, "--keep", "1", "--yes")["files"] == 0
    assert len((tmp_path / "mounted/going").read_bytes()) == 3 * MIB
    own("umount", tmp_path / "mounted")


def test_what_was_pruned_under_a_mount_fails_and_the_rest_stays(own: Hyperfs, pruned: str, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    own("mount", f"{pruned}+v1", tmp_path / "mounted", "--timeout", "2")
    own("clear", "--force", "--yes", pruned + "+v1", "going")
    with pytest.raises(OSError, match="Input/output error"):
        (tmp_path / "mounted/going").read_bytes()
    assert len((tmp_path / "mounted/kept").read_bytes()) == MIB
    eventually(lambda: "pruned from this store" in own.log)


@pytest.mark.parametrize("options", [[], ["--read-only"]], ids=["writable", "read-only"])
def test_prune_keeps_what_a_program_has_open(own: Hyperfs, folder: Path, tmp_path: Path, options: list[str]) -> None:
    key = own.imported(folder)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    own("mount", key, mounted, *options)
    with open(mounted / "going", "rb", buffering=0) as opened:
        began = opened.read(MIB)
        going = (folder / "going").read_bytes()
        (folder / "going").unlink()
        own("import", "--delete", folder, key)
        eventually(lambda: not (mounted / "going").exists())
        assert own.json("prune", key, "--keep", "1", "--yes")["cleared"] is False
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert began + opened.read() == going
    # The mount hears of the closing a little after the program is told that it is done.
    eventually(lambda: own.json("prune", key, "--keep", "1", "--yes")["bytes"] == 3 * MIB)


def test_prune_keeps_what_is_below_what_is_staged(own: Hyperfs, folder: Path, tmp_path: Path) -> None:
    key = own.imported(folder)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    own("mount", key, mounted, "--flush-interval", "600")
    expected = (folder / "changing").read_bytes()[:-1] + b"!"
    with open(mounted / "changing", "r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"!")
        opened.flush()
        change(folder)
        own("import", "--delete", folder, key)
        eventually(lambda: not (mounted / "going").exists())
        own("prune", key, "--keep", "1", "--yes")
    own("umount", mounted)
    assert own.run("cat", key, "changing").stdout == expected


def test_what_was_pruned_says_so_when_it_is_read(own: Hyperfs, pruned: str) -> None:
    own("prune", pruned, "--keep", "1", "--yes")
    words = own.fails("cat", f"{pruned}+v1", "going")
    assert "pruned from this store" in words
    assert "going: as it is in version " in words
    assert "going" in own("ls", f"{pruned}+v1")


def test_a_second_prune_finds_nothing(own: Hyperfs, pruned: str) -> None:
    own("prune", pruned, "--keep", "1", "--yes")
    assert "nothing else is here" in own("prune", pruned, "--keep", "1", "--yes")


def test_prune_needs_to_know_what_to_keep(own: Hyperfs, pruned: str) -> None:
    assert "--keep" in own.fails("prune", pruned, status=2)
    assert "does not say what to keep" in own.fails("prune", pruned, "--keep", "some", status=2)


def test_a_pruned_drive_can_be_written_to_and_checked(own: Hyperfs, pruned: str, folder: Path) -> None:
    own("prune", pruned, "--keep", "1", "--yes")
    (folder / "new").write_text("new")
    own("import", folder, pruned)
    own("stop")
    assert own("cat", pruned, "new") == "new"
    own("check", pruned)


# clear and cache


def served(own: Hyperfs, key: str) -> str:
    """Serve a drive and return where."""
    return str(own.json("serve", key, "--listen", "127.0.0.1:0")["listening"][0])


@pytest.fixture
def copied(own: Hyperfs, other: Hyperfs, pruned: str, made: Made) -> tuple[str, str]:
    """A drive of ``own``, all of the newest version of which is in ``other`` as well, and where it is served."""
    take_over(made.other, other.store)
    return pruned, served(own, pruned)


def test_clear_frees_a_copy_and_peers_bring_it_again(other: Hyperfs, copied: tuple[str, str]) -> None:
    key, address = copied
    before = data_bytes(other)
    told = other.json("clear", key)
    assert told["bytes"] == before - data_bytes(other) > MIB
    assert len(other.run("cat", key, "kept", "--peer", address).stdout) == MIB


def test_clear_of_a_path_leaves_the_rest(other: Hyperfs, copied: tuple[str, str]) -> None:
    key, _ = copied
    other("clear", key, "kept")
    assert other.json("stat", key, "kept")["blocks_here"] == 0
    assert other.json("stat", key, "changing")["blocks_here"] == 2


def test_clear_does_not_touch_what_is_ours(own: Hyperfs, pruned: str) -> None:
    before = data_bytes(own)
    assert "is yours" in own.fails("clear", pruned)
    assert "say --yes" in own.fails("clear", "--force", pruned, status=2)
    assert data_bytes(own) == before


def test_clear_with_force_clears_even_what_is_ours(own: Hyperfs, pruned: str) -> None:
    own("clear", "--force", "--yes", pruned, "kept")
    assert own.json("stat", pruned, "kept")["blocks_here"] == 0


def test_prune_of_a_copy_leaves_what_the_newest_version_shows(other: Hyperfs, copied: tuple[str, str]) -> None:
    key, address = copied
    other.run("cat", f"{key}+v1", "going", "--peer", address)
    told = other.json("prune", key, "--keep", "1", "--yes", "--peer", address)
    assert (told["blocks"], told["files"]) == (6, None)
    assert other.json("stat", key, "kept")["blocks_here"] == 2


def test_readers_are_told_of_what_was_pruned(own: Hyperfs, other: Hyperfs, copied: tuple[str, str]) -> None:
    key, address = copied
    own("prune", key, "--keep", "1", "--yes")
    words = other.fails("cat", f"{key}+v1", "going", "--peer", address, "--timeout", "2")
    assert "no peer sent it within" in words


def test_a_cache_limit_holds_for_what_is_here_and_what_comes(other: Hyperfs, copied: tuple[str, str]) -> None:
    key, address = copied
    assert other.json("cache")["bytes"] >= 2 * MIB
    told = other.json("cache", "--limit", "1.5M")
    assert (told["limit"], told["drives"][0]["key"]) == (3 * MIB // 2, key)
    other("stop")
    assert other.json("cache")["limit"] == 3 * MIB // 2
    assert len(other.run("cat", key, "kept", "changing", "--peer", address).stdout) == 2 * MIB


def test_a_cache_limit_leaves_what_is_ours(own: Hyperfs, pruned: str) -> None:
    before = data_bytes(own)
    own("cache", "--limit", "1M")
    assert data_bytes(own) == before
    own("cache", "--limit", "none")
    assert own.json("cache")["limit"] is None


def test_a_limit_that_is_no_size_is_wrong_usage(own: Hyperfs) -> None:
    assert "is not a size" in own.fails("cache", "--limit", "much", status=2)


# keys


def test_an_exported_key_makes_a_copy_writable(
    own: Hyperfs, other: Hyperfs, copied: tuple[str, str], folder: Path, tmp_path: Path
) -> None:
    key, _ = copied
    file = tmp_path / "drive.key"
    own("key", "export", key, "--out", file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "not yours" in other.fails("import", folder, key)
    other("key", "import", file)
    assert other.json("info", key)["writable"] is True
    own("stop")
    (folder / "new").write_text("new")
    other("import", folder, key)
    assert other("cat", key, "new") == "new"


def test_a_key_goes_into_a_folder_of_ones_own_unless_told(own: Hyperfs, pruned: str, tmp_path: Path) -> None:
    shared_folder = tmp_path / "shared"
    shared_folder.mkdir()
    environment = {**own.environment, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    own("key", "export", pruned, cwd=shared_folder, env=environment)
    file = tmp_path / "config/hyperfs" / f"{pruned[:8]}.hyperfs-key"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(shared_folder.iterdir()) == []


def test_an_import_of_a_store_publishes_no_key(own: Hyperfs, pruned: str, tmp_path: Path) -> None:
    copy = tmp_path / "backup/store"
    shutil.copytree(own.store, copy, ignore=shutil.ignore_patterns(".hyperfs"))
    own("key", "export", pruned, "--out", tmp_path / "backup/drive.key")
    done = own.run("import", tmp_path / "backup", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert ([one["path"] for one in told["skipped"]], told["files"]) == (["store", "drive.key"], 0)
    assert own.json("import", tmp_path / "backup", "--with-secrets")["files"] > 2


def test_a_sealed_key_needs_its_passphrase(own: Hyperfs, other: Hyperfs, pruned: str, tmp_path: Path) -> None:
    file = tmp_path / "drive.key"
    with typed("secret") as stdin:
        own("key", "export", pruned, "--out", file, "--passphrase", stdin=stdin)
    with typed("other") as stdin:
        assert "passphrase is not the one" in other.fails("key", "import", file, stdin=stdin)
    with typed("secret") as stdin:
        assert pruned in other("key", "import", file, stdin=stdin)


@contextmanager
def typed(text: str) -> Iterator[int]:
    """Give the standard input of a command into which ``text`` is piped."""
    read, write = os.pipe()
    os.write(write, text.encode() + b"\n")
    os.close(write)
    try:
        yield read
    finally:
        os.close(read)


def test_a_key_that_others_may_read_is_refused(own: Hyperfs, other: Hyperfs, pruned: str, tmp_path: Path) -> None:
    file = tmp_path / "drive.key"
    own("key", "export", pruned, "--out", file)
    file.chmod(0o644)
    assert "others may read" in other.fails("key", "import", file)


def test_the_key_of_somebody_elses_drive_cannot_be_exported(other: Hyperfs, copied: tuple[str, str]) -> None:
    assert "not yours" in other.fails("key", "export", copied[0])


def test_a_store_that_has_only_the_key_writes_nothing(
    own: Hyperfs, other: Hyperfs, pruned: str, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "drive.key"
    own("key", "export", pruned, "--out", file)
    other("key", "import", file)
    assert "only the secret key" in other.fails("import", folder, pruned)
    address = served(own, pruned)
    (folder / "new").write_text("new")
    other("import", folder, pruned, "--peer", address)
    assert other("cat", pruned, "new") == "new"


# one writer


def backed_up(own: Hyperfs, other: Hyperfs) -> None:
    """Make ``other`` a copy of the store of ``own`` as it is now."""
    own("stop")
    shutil.copytree(own.store, other.store, ignore=shutil.ignore_patterns("maps", "daemon.*"))


def test_a_restored_backup_catches_up_before_it_is_written_to(own: Hyperfs, other: Hyperfs, folder: Path) -> None:
    key = own.imported(folder)
    backed_up(own, other)
    change(folder)
    own("import", folder, key)
    address = served(own, key)
    (folder / "new").write_text("written after the backup was restored")
    other("import", "--delete", folder, key, "--peer", address)
    assert other("cat", key, "new") == "written after the backup was restored"
    assert other.json("info", key)["standing"] == []
    other("export", key, folder.parent / "copy")
    subprocess.run(["diff", "-r", folder, folder.parent / "copy"], check=True)


@pytest.fixture
def forked(own: Hyperfs, other: Hyperfs, folder: Path) -> tuple[str, str]:
    """A drive that ``own`` and ``other`` wrote to without knowing of each other, and where ``own`` serves it."""
    key = own.imported(folder)
    backed_up(own, other)
    (folder / "mine").write_text("mine")
    own("import", folder, key)
    (folder / "mine").unlink()
    (folder / "theirs").write_text("theirs")
    other("import", folder, key)
    return key, served(own, key)


def test_two_writers_are_found_out_when_they_meet(other: Hyperfs, forked: tuple[str, str], folder: Path) -> None:
    key, address = forked
    (folder / "more").write_text("more")
    words = other.fails("import", folder, key, "--peer", address)
    assert "is forked: its secret key was used in two places" in words
    assert "hyperfs fork --help" in words
    assert other("cat", key, "theirs") == "theirs"


def test_a_fork_is_shown_and_logged(own: Hyperfs, other: Hyperfs, forked: tuple[str, str], folder: Path) -> None:
    key, address = forked
    (folder / "more").write_text("more")
    other.fails("import", folder, key, "--peer", address)
    assert "FORKED" in other("status")
    assert "FORKED" in other("info", key)
    assert "IS FORKED" in other.log
    other("stop")
    assert other.json("info", key)["standing"][0]["fork"]["accepted"] is False


def test_who_decided_to_keep_his_side_of_a_fork_writes_on(
    other: Hyperfs, forked: tuple[str, str], folder: Path
) -> None:
    key, address = forked
    (folder / "more").write_text("more")
    other.fails("import", folder, key, "--peer", address)
    assert "you decided" in other("fork", key, "--keep-mine")
    other("import", folder, key, "--peer", address)
    assert other("cat", key, "more") == "more"


def test_who_gives_up_his_side_of_a_fork_follows_the_other(
    own: Hyperfs, other: Hyperfs, forked: tuple[str, str], folder: Path
) -> None:
    key, address = forked
    (folder / "more").write_text("more")
    other.fails("import", folder, key, "--peer", address)
    assert "`hyperfs stop`" in other.fails("fork", key, "--keep-theirs", status=2)
    other("stop")
    aside = other.json("fork", key, "--keep-theirs")["aside"]
    assert all((Path(path) / "data").exists() for path in aside)
    assert other("cat", key, "mine", "--peer", address) == "mine"
    other("import", folder, key, "--peer", address)
    assert other("cat", key, "theirs") == "theirs"
    assert own.json("info", key)["standing"] == []


# a full disk


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[Hyperfs, str, Path]]:
    """A store on a disk of 24 MiB, a drive in it, and the folder that it was made of; the disk is full."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_bytes(os.urandom(4 * MIB))
    with small_disk(tmp_path / "disk", 24) as disk, hyperfs_in(disk) as commands:
        key = commands.imported(folder)
        fill(disk)
        yield commands, key, folder


def test_content_that_does_not_fit_is_refused(full: tuple[Hyperfs, str, Path]) -> None:
    hyperfs, key, folder = full
    (folder / "three").write_bytes(os.urandom(MIB))
    assert "No space left on device" in hyperfs.fails("import", folder, key)
    assert sorted(hyperfs("ls", key).split()) == ["one", "two"]


def test_deleting_and_pruning_work_on_a_full_disk(full: tuple[Hyperfs, str, Path]) -> None:
    hyperfs, key, folder = full
    (folder / "one").unlink()
    hyperfs("import", "--delete", folder, key)
    told = json.loads(hyperfs("prune", key, "--keep", "1", "--yes", "--json"))
    assert told["bytes"] == 4 * MIB
    (folder / "three").write_bytes(os.urandom(MIB))
    hyperfs("import", folder, key)
    assert sorted(hyperfs("ls", key).split()) == ["three", "two"]


def test_deleting_in_a_mount_and_pruning_work_when_no_byte_is_free(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk, hyperfs_in(disk) as hyperfs:
        drive = WritableMount(hyperfs, tmp_path / "mounted", "--flush-interval", "0.2")
        for name in ("deleted", "emptied", "kept"):
            (drive.folder / name).write_bytes(os.urandom(2 * MIB))
        eventually(lambda: drive.hyperfs("ls", drive.key).split() == ["deleted", "emptied", "kept"])
        fill(disk)
        (drive.folder / "deleted").unlink()
        os.truncate(drive.folder / "emptied", 0)
        eventually(lambda: drive.hyperfs("ls", drive.key).split() == ["emptied", "kept"])
        eventually(lambda: hyperfs.json("stat", drive.key, "emptied")["size"] == 0)  # perhaps a version later
        assert hyperfs.json("prune", drive.key, "--keep", "1", "--yes")["bytes"] == 4 * MIB
        (drive.folder / "new").write_bytes(bytes(MIB))
        drive.unmount()
        assert drive.cat("new") == bytes(MIB)


def test_a_daemon_starts_and_makes_room_when_no_byte_is_free(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk, hyperfs_in(disk) as hyperfs:
        drive = WritableMount(hyperfs, tmp_path / "mounted", "--flush-interval", "0.2")
        for content in (os.urandom(2 * MIB), os.urandom(MIB)):
            (drive.folder / "file").write_bytes(content)
            eventually(lambda content=content: drive.cat("file") == content)
        drive.unmount()
        hyperfs("stop")
        fill(disk)
        assert drive.cat("file") == content
        assert hyperfs.json("prune", drive.key, "--keep", "1", "--yes")["bytes"] == 2 * MIB
