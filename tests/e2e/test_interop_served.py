"""hyperfs serves, the reference clones and follows; and both work on one store directory in turns."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..support.commands import Hyperfs, hyperfs_in
from ..support.patterns import pattern, sha256
from ..support.reference import ReferenceFailed
from ..support.reference_process import ReferenceProcess, reference_process

CROWD = 20_000
LONG_NAME = "ö" * 127 + "x"


@dataclass(frozen=True, slots=True)
class Serving:
    """A folder, the drive it was imported into, which is served, and a reference peer that is connected.

    ``crowd`` is the drive of a folder with many entries, served as well.
    """

    hyperfs: Hyperfs
    reference: ReferenceProcess
    folder: Path
    key: str
    crowd: str

    def update(self) -> int:
        """Import the folder again; return the new version once the reference has heard of it."""
        version = int(self.hyperfs.json("import", "--delete", self.folder, self.key)["version"])
        self.reference.call("drive.update", drive=self.key, version=version)
        return version


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("serving")
    folder = directory / "folder"
    fill(folder)
    crowd = directory / "crowd"
    crowd.mkdir()
    for number in range(CROWD):
        (crowd / str(number)).touch()
    with hyperfs_in(directory) as hyperfs, reference_process() as reference:
        imported = [hyperfs.json("import", source) for source in (folder, crowd)]
        (address,) = hyperfs.json("serve", imported[0]["key"], "--listen", "127.0.0.1:0")["listening"]
        hyperfs("serve", imported[1]["key"])
        for told in imported:
            reference.call("drive.open", key=told["key"])
        reference.connect(address)
        for told in imported:
            reference.call("drive.update", drive=told["key"], version=told["version"])
        yield Serving(hyperfs, reference, folder, imported[0]["key"], imported[1]["key"])


def fill(folder: Path) -> None:
    deep = folder.joinpath(*(f"level{number}" for number in range(60)))
    for directory in (deep.parent, folder / "with space", folder / "long", folder / "bare"):
        directory.mkdir(parents=True)
    deep.write_text("deep")
    (folder / "with space/ünïcödé ☃ 名前.txt").write_text("snow")
    (folder / "long" / LONG_NAME).write_text("long")
    (folder / "empty").touch()
    (folder / "big").write_bytes(pattern("big", 1_200_000))
    (folder / "hello").write_text("hello")
    (folder / "hello").chmod(0o640)
    os.setxattr(folder / "hello", "user.colour", b"blue")
    os.utime(folder / "hello", ns=(0, 1_234_567_890_123_000_000))
    os.chown(folder / "hello", 1000, 100)
    (folder / "bare").chmod(0o1750)
    (folder / "relative").symlink_to("big")
    (folder / "absolute").symlink_to("/etc/hostname")


def described(path: Path) -> dict[str, Any]:
    """Return what a drive should say about a file in the imported folder."""
    found = path.lstat()
    attributes = {} if path.is_symlink() else {name: os.getxattr(path, name).hex() for name in os.listxattr(path)}
    told = {
        "mode": found.st_mode,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": found.st_mtime_ns // 1_000_000,
        "linkname": os.readlink(path) if path.is_symlink() else None,
        "metadata": attributes,
    }
    if stat.S_ISREG(found.st_mode):
        told |= {"size": found.st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return told


def test_the_reference_clones_what_was_imported(serving: Serving) -> None:
    parts = list(serving.folder.iterdir())
    theirs: dict[str, Any] = {}
    for part in parts:
        name = f"/{part.name}"
        theirs[name] = serving.reference.call("drive.stat", drive=serving.key, path=name)
        if part.is_dir() and not part.is_symlink():
            theirs |= serving.reference.call("drive.clone", drive=serving.key, path=name)
        elif not part.is_symlink():
            theirs[name]["sha256"] = serving.reference.call("drive.read", drive=serving.key, path=name)["sha256"]
    ours = {f"/{path.relative_to(serving.folder)}": path for part in parts for path in (part, *part.rglob("*"))}
    expected = {name: described(path) for name, path in ours.items()}
    assert {name: {field: found[field] for field in expected[name]} for name, found in theirs.items()} == expected


def test_the_reference_lists_twenty_thousand_names(serving: Serving) -> None:
    names = serving.reference.call("drive.readdir", drive=serving.crowd)
    assert sorted(map(int, names)) == list(range(CROWD))


def test_the_reference_follows_an_import(serving: Serving) -> None:
    (serving.folder / "hello").write_text("changed")
    (serving.folder / "new").write_bytes(pattern("new", 700_000))
    (serving.folder / "empty").unlink()
    serving.update()
    read = serving.reference.call("drive.read", drive=serving.key, path="/hello")
    assert read["sha256"] == sha256(b"changed")
    assert serving.reference.call("drive.read", drive=serving.key, path="/new")["sha256"] == sha256(
        pattern("new", 700_000)
    )
    with pytest.raises(ReferenceFailed, match="No such file"):
        serving.reference.call("drive.stat", drive=serving.key, path="/empty")


def test_the_reference_reads_a_past_version(serving: Serving) -> None:
    before = serving.hyperfs.json("info", serving.key)["version"]
    (serving.folder / "versioned").write_text("later")
    after = serving.update()
    (serving.folder / "versioned").write_text("latest!")
    serving.update()
    read = serving.reference.call("drive.read", drive=serving.key, path="/versioned", version=after)
    assert read["sha256"] == sha256(b"later")
    with pytest.raises(ReferenceFailed, match="No such file"):
        serving.reference.call("drive.stat", drive=serving.key, path="/versioned", version=before)


def test_the_reference_sees_a_tag(serving: Serving) -> None:
    version = serving.hyperfs.json("info", serving.key)["version"]
    serving.hyperfs("tag", serving.key, "v1")
    serving.reference.call("drive.update", drive=serving.key, version=version + 1)
    assert serving.reference.call("drive.tags", drive=serving.key) == {"v1": version}


def test_a_clone_is_served_on(serving: Serving, tmp_path: Path) -> None:
    address = serving.reference.listen()
    with hyperfs_in(tmp_path) as reader:
        assert reader("cat", serving.key, "with space/ünïcödé ☃ 名前.txt", "--peer", address) == "snow"


# One store directory -------------------------------------------------------------------------------------------------


def holds(hyperfs: Hyperfs, key: str, contents: dict[str, str]) -> bool:
    return hyperfs("cat", key, *contents) == "".join(contents.values())


def test_both_write_to_one_store_in_turns(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    contents: dict[str, str] = {}
    key = ""
    for turn in range(2):
        with hyperfs_in(tmp_path) as hyperfs:
            (folder / f"ours-{turn}").write_text(f"ours {turn};")
            contents[f"ours-{turn}"] = f"ours {turn};"
            key = hyperfs.json("import", folder, *([key] if key else []))["key"]
            assert holds(hyperfs, key, contents)
            hyperfs("stop")
        with reference_process(tmp_path / "store") as reference:
            assert reference.call("drive.open", key=key)["writable"]
            reference.call("drive.write", drive=key, path=f"/theirs-{turn}", data={"text": f"theirs {turn};"})
            contents[f"theirs-{turn}"] = f"theirs {turn};"
            for name, text in contents.items():
                read = reference.call("drive.read", drive=key, path=f"/{name}")
                assert read["sha256"] == sha256(text.encode())
    with hyperfs_in(tmp_path) as hyperfs:
        assert holds(hyperfs, key, contents)


def test_the_store_of_a_hyperdrive_daemon_opens(tmp_path: Path) -> None:
    cores = tmp_path / "storage/cores"
    (tmp_path / "storage/db").mkdir(parents=True)
    (tmp_path / "storage/db/CURRENT").write_text("not ours")
    with reference_process(cores) as reference:
        name = bytes(range(32)).hex()  # the daemon gives each drive a random namespace
        key = reference.call("drive.open", name=name)["key"]
        reference.call("drive.write", drive=key, path="/a", data={"text": "from the daemon"})
    with hyperfs_in(tmp_path, "storage/cores") as hyperfs:
        assert hyperfs("cat", key, "a") == "from the daemon"
        assert hyperfs.json("info", key)["writable"]
        hyperfs("tag", key, "v1")
        hyperfs("stop")
    with reference_process(cores) as reference:
        assert reference.call("drive.open", name=name)["key"] == key
        assert reference.call("drive.tags", drive=key) == {"v1": 2}


def test_a_store_that_the_reference_has_open_is_told(tmp_path: Path) -> None:
    with reference_process(tmp_path / "store") as reference:
        key = reference.call("drive.open")["key"]
        reference.call("drive.write", drive=key, path="/a", data={"text": "a"})
        with hyperfs_in(tmp_path) as hyperfs:
            assert f"in use by process {reference.pid}" in hyperfs.fails("ls", key)
