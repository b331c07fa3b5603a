"""The reference serves, hyperfs mounts: all of the drive is there, and what the reference appends is followed."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from ..support.commands import Hyperfs, eventually, hyperfs_in
from ..support.patterns import pattern
from ..support.reference_process import ReferenceProcess, reference_process
from ..support.residency import resident_pages
from ..support.zeros import File, make_zeros

CROWD = 20_000
DEEP = "/".join(f"level{number}" for number in range(60))
LONG_NAME = "ö" * 127 + "x"
SPACED = "with space/ünïcödé ☃ 名前.txt"
HUGE_BLOCKS = 768
HUGE_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Served:
    """Drives of the reference, by name, mounted at folders of these names."""

    reference: ReferenceProcess
    hyperfs: Hyperfs
    keys: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    theirs = directory / "theirs"
    large = [File("huge", blocks=HUGE_BLOCKS)]
    large += [File(f"crowd/{number}", content=pattern(number, 10)) for number in range(CROWD)]
    keys = {"large": trio.run(lambda: make_zeros(theirs, large, block_bytes=HUGE_BLOCK_BYTES))}
    with reference_process(theirs) as reference, hyperfs_in(directory) as hyperfs:
        reference.call("drive.open", key=keys["large"])
        keys |= write_rich(reference)
        keys |= write_changing(reference)
        address = reference.listen()
        for name in ("rich", "changing", "large"):
            (directory / name).mkdir()
            # What the drive holds is compared, not what becomes of it where links are kept inside.
            hyperfs("mount", keys[name], directory / name, "--peer", address, "--links", "as-stored")
        yield Served(reference, hyperfs, keys, directory)


def write_rich(reference: ReferenceProcess) -> dict[str, str]:
    def open_drive(name: str) -> str:
        return str(reference.call("drive.open", name=name)["key"])

    rich, inner, deepest = open_drive("rich"), open_drive("inner"), open_drive("deepest")
    then = reference.call("drive.write", drive=deepest, path="/bottom", data={"text": "then"})["version"]
    reference.call("drive.write", drive=deepest, path="/bottom", data={"text": "now"})
    reference.call("drive.write", drive=inner, path="/x", data={"text": "inner"})
    reference.call("drive.mount", drive=inner, path="/fixed", key=deepest, version=then)
    reference.call("drive.mount", drive=inner, path="/live", key=deepest)
    files: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "/hello": ({"text": "hello"}, {"mode": 0o640, "uid": 1000, "gid": 100, "mtime": 1_234_567_890_123}),
        "/run.sh": ({"text": "#!/bin/sh\necho ran\n"}, {"mode": 0o755}),
        "/set-id": ({"text": "x"}, {"mode": 0o6711}),
        "/empty": ({"text": ""}, {}),
        "/big": ({"size": 1_200_000, "seed": "big"}, {}),
        f"/{SPACED}": ({"text": "snow"}, {}),
        f"/long/{LONG_NAME}": ({"text": "long"}, {}),
        f"/{DEEP}": ({"text": "deep"}, {}),
    }
    for path, (data, fields) in files.items():
        reference.call("drive.write", drive=rich, path=path, data=data, stat=fields)
    reference.call("drive.mkdir", drive=rich, path="/folder", stat={"mode": 0o1750, "mtime": 1_500_000_000_001})
    for name, target in {"relative": "big", "up": "../up", "absolute": "/etc/hostname", "dangling": "nö where"}.items():
        reference.call("drive.symlink", drive=rich, path=f"/{name}", target=target)
    for name, value in {"user.colour": "blue", "user.empty": "", "user.gone": "x"}.items():
        reference.call("drive.setMetadata", drive=rich, path="/hello", name=name, data={"text": value})
    reference.call("drive.removeMetadata", drive=rich, path="/hello", name="user.gone")
    reference.call("drive.mount", drive=rich, path="/sub/inner", key=inner)
    return {"rich": rich, "inner": inner, "deepest": deepest}


def write_changing(reference: ReferenceProcess) -> dict[str, str]:
    changing = str(reference.call("drive.open", name="changing")["key"])
    inside = str(reference.call("drive.open", name="inside")["key"])
    for path in ("/folder/replaced", "/folder/deleted", "/folder/other", "/only/inside", "/moded"):
        reference.call("drive.write", drive=changing, path=path, data={"text": "old!"})
    reference.call("drive.write", drive=changing, path="/large", data={"size": 1 << 20, "seed": "large"})
    reference.call("drive.write", drive=changing, path="/growing", data={"text": "one\n"})
    reference.call("drive.symlink", drive=changing, path="/link", target="moded")
    reference.call("drive.write", drive=inside, path="/in", data={"text": "1"})
    reference.call("drive.mount", drive=changing, path="/drives/inside", key=inside)
    return {"changing": changing, "inside": inside}


@pytest.fixture
def rich(served: Served) -> Path:
    return served.folder / "rich"


def described(path: Path) -> dict[str, Any]:
    """Return what the reference's ``drive.clone`` says about a path, as the kernel says it."""
    found = path.lstat()
    told = {
        "mode": found.st_mode,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": found.st_mtime_ns // 1_000_000,
        "ctime": found.st_ctime_ns // 1_000_000,
        "linkname": os.readlink(path) if path.is_symlink() else None,
        "metadata": {
            name: os.getxattr(path, name, follow_symlinks=False).hex()
            for name in os.listxattr(path, follow_symlinks=False)
        },
    }
    if stat.S_ISREG(found.st_mode):
        told |= {"size": found.st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return told


def expected(theirs: dict[str, Any]) -> dict[str, Any]:
    """Return the same out of what the reference says; an attribute that was removed it still has, as null."""
    told = {name: theirs[name] for name in ("mode", "uid", "gid", "mtime", "ctime", "linkname")}
    told["metadata"] = {name: value for name, value in theirs["metadata"].items() if value is not None}
    return told | {name: theirs[name] for name in ("size", "sha256") if "sha256" in theirs}


@pytest.mark.parametrize(
    "part", ["long", "with space", "folder", "hello", "run.sh", "set-id", "empty", "big", "relative", "up", "level0"]
)
def test_a_part_of_the_drive_is_what_the_reference_says(served: Served, rich: Path, part: str) -> None:
    key = served.keys["rich"]
    if (rich / part).is_dir() and not (rich / part).is_symlink():
        theirs = served.reference.call("drive.clone", drive=key, path=f"/{part}")
        if part == "folder":
            theirs[f"/{part}"] = served.reference.call("drive.stat", drive=key, path=f"/{part}")
    else:
        theirs = {f"/{part}": served.reference.call("drive.stat", drive=key, path=f"/{part}")}
        if theirs[f"/{part}"]["linkname"] is None:
            theirs[f"/{part}"]["sha256"] = served.reference.call("drive.read", drive=key, path=f"/{part}")["sha256"]
    # Of directories that only paths imply, the reference makes up a Stat out of one below.
    real = {path: found for path, found in theirs.items() if path == "/folder" or not stat.S_ISDIR(found["mode"])}
    assert {path: described(rich / path[1:]) for path in real} == {path: expected(real[path]) for path in real}
    assert {f"/{found.relative_to(rich)}" for found in (rich / part).rglob("*")} == set(theirs) - {f"/{part}"}


def test_a_folder_lists_its_names(rich: Path) -> None:
    names = "absolute,big,dangling,empty,folder,hello,level0,long,relative,run.sh,set-id,sub,up,with space"
    assert ",".join(sorted(os.listdir(rich))) == names


def test_twenty_thousand_entries_in_one_directory(served: Served) -> None:
    crowd = served.folder / "large/crowd"
    assert sorted(map(int, os.listdir(crowd))) == list(range(CROWD))
    for number in range(0, CROWD, 997):
        assert (crowd / str(number)).read_bytes() == pattern(number, 10)


def test_a_path_sixty_levels_deep(rich: Path) -> None:
    assert (rich / DEEP).read_bytes() == b"deep"


def test_links_lead_where_they_say(rich: Path) -> None:
    assert (rich / "relative").read_bytes() == (rich / "big").read_bytes() == pattern("big", 1_200_000)
    assert os.readlink(rich / "absolute") == "/etc/hostname"
    assert os.readlink(rich / "dangling") == "nö where"
    assert not (rich / "dangling").exists()


def test_drives_inside_drives_are_read(rich: Path) -> None:
    assert sorted(os.listdir(rich / "sub/inner")) == ["fixed", "live", "x"]
    assert (rich / "sub/inner/x").read_bytes() == b"inner"
    assert (rich / "sub/inner/live/bottom").read_bytes() == b"now"
    assert (rich / "sub/inner/fixed/bottom").read_bytes() == b"then"


def test_the_end_of_three_gibibytes_is_read_first(served: Served) -> None:
    huge = served.folder / "large/huge"
    with huge.open("rb") as file:
        assert os.fstat(file.fileno()).st_size == HUGE_BLOCKS * HUGE_BLOCK_BYTES == 3 << 30
        file.seek(-5, os.SEEK_END)
        assert file.read() == bytes(5)
    told = served.hyperfs.json("stat", served.keys["large"], "huge")
    assert told["blocks"] == HUGE_BLOCKS
    assert told["blocks_here"] <= 2


# What the reference appends ------------------------------------------------------------------------------------------


@pytest.fixture
def changing(served: Served) -> Path:
    return served.folder / "changing"


def write(served: Served, path: str, text: str, drive: str = "changing") -> None:
    served.reference.call("drive.write", drive=served.keys[drive], path=path, data={"text": text})


def test_a_replaced_file_of_the_same_size_is_seen(served: Served, changing: Path) -> None:
    path = changing / "folder/replaced"
    assert path.read_bytes() == b"old!"
    write(served, "/folder/replaced", "new!")
    eventually(lambda: path.read_bytes() == b"new!")


def test_a_deleted_file_is_gone(served: Served, changing: Path) -> None:
    path = changing / "folder/deleted"
    assert path.exists()
    served.reference.call("drive.unlink", drive=served.keys["changing"], path="/folder/deleted")
    eventually(lambda: not path.exists())
    assert "deleted" not in os.listdir(changing / "folder")


def test_a_name_that_was_absent_appears(served: Served, changing: Path) -> None:
    path = changing / "fresh/new"
    assert not path.exists()
    assert "fresh" not in os.listdir(changing)
    write(served, "/fresh/new", "new")
    eventually(path.exists)
    assert path.read_bytes() == b"new"
    assert "fresh" in os.listdir(changing)


def test_a_directory_is_listed_anew(served: Served, changing: Path) -> None:
    before = set(os.listdir(changing / "folder"))
    write(served, "/folder/added", "x")
    eventually(lambda: set(os.listdir(changing / "folder")) == before | {"added"})


def test_a_directory_goes_with_the_last_path_that_implied_it(served: Served, changing: Path) -> None:
    assert (changing / "only").is_dir()
    served.reference.call("drive.unlink", drive=served.keys["changing"], path="/only/inside")
    eventually(lambda: not (changing / "only").exists())


def test_a_changed_mode_is_seen(served: Served, changing: Path) -> None:
    assert stat.S_IMODE((changing / "moded").stat().st_mode) == 0o644
    served.reference.call("drive.change", drive=served.keys["changing"], path="/moded", stat={"mode": 0o100600})
    eventually(lambda: stat.S_IMODE((changing / "moded").stat().st_mode) == 0o600)


def test_a_link_that_leads_elsewhere_is_seen(served: Served, changing: Path) -> None:
    assert os.readlink(changing / "link") == "moded"
    served.reference.call("drive.unlink", drive=served.keys["changing"], path="/link")
    served.reference.call("drive.symlink", drive=served.keys["changing"], path="/link", target="large")

    def target() -> str | None:
        with suppress(FileNotFoundError):  # between its removal and its return there is a version without it
            return os.readlink(changing / "link")
        return None

    eventually(lambda: target() == "large")


def test_an_attribute_that_was_set_is_seen(served: Served, changing: Path) -> None:
    path = changing / "folder/other"
    assert os.listxattr(path) == []
    served.reference.call(
        "drive.setMetadata", drive=served.keys["changing"], path="/folder/other", name="user.a", data={"text": "b"}
    )
    eventually(lambda: os.listxattr(path) == ["user.a"])


def test_an_open_file_follows_a_growing_one(served: Served, changing: Path) -> None:
    with (changing / "growing").open("rb") as file:
        assert file.read() == b"one\n"
        write(served, "/growing", "one\ntwo\n")
        eventually(lambda: os.fstat(file.fileno()).st_size == 8)
        assert file.read() == b"two\n"


def test_a_drive_inside_is_followed(served: Served, changing: Path) -> None:
    path = changing / "drives/inside/in"
    assert path.read_bytes() == b"1"
    write(served, "/in", "2", drive="inside")
    eventually(lambda: path.read_bytes() == b"2")


def test_the_kernel_keeps_the_pages_of_what_did_not_change(served: Served, changing: Path) -> None:
    large = changing / "large"
    with large.open("rb") as file:  # open meanwhile, or the kernel may forget the file, and its pages with it
        assert file.read() == pattern("large", 1 << 20)
        pages = resident_pages(large)
        write(served, "/elsewhere", "x")
        eventually((changing / "elsewhere").exists)
        assert pages == resident_pages(large) == (1 << 20) // os.sysconf("SC_PAGE_SIZE")


def test_the_reference_comes_back_and_is_followed_on(served: Served, changing: Path) -> None:
    served.reference.call("net.disconnect")
    write(served, "/after-the-cut", "x")
    eventually((changing / "after-the-cut").exists)
