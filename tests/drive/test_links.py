"""Where symbolic links of a drive lead."""

import errno
import os
import random
from pathlib import Path

import pytest

from hyperfs.drive.entry import Entry
from hyperfs.drive.links import MAX_FOLLOWED, confined_target, follow
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import PathError
from tests.support.drives import OwnDrive, new_drive


async def drive_with(links: dict[str, str], *, files: tuple[str, ...] = ()) -> OwnDrive:
    own = await new_drive()
    async with own.writer.batch() as batch:
        for path in files:
            await batch.put_file(path, path.encode())
        for path, target in links.items():
            await batch.symlink(path, target)
    return own


async def end_of(snapshot: Snapshot, path: str) -> str | int:
    """Return where ``path`` leads, or the errno of why it leads nowhere."""
    try:
        return (await follow(snapshot, path)).path
    except PathError as error:
        return error.errno


async def shown_target(snapshot: Snapshot, path: str) -> str | int:
    try:
        return await confined_target(snapshot, await snapshot.stat(path))
    except PathError as error:
        return error.errno


LINKS = {
    "dir/beside": "file",
    "dir/up": "../top",
    "dir/rooted": "/dir/file",
    "dir/root": "/",
    "dir/self": ".",
    "dir/out": "../../etc/passwd",
    "dir/in-and-out": "inner/../../../top",
    "dir/round": "inner/deep/../../file",
    "rooted-out": "/../top",
    "absolute": "/etc/passwd",
    "by-link": "to-dir/file",
    "to-dir": "dir",
    "behind-link": "to-inner/../file",
    "to-inner": "dir/inner",
    "loop": "loop",
    "one": "two",
    "two": "one",
    "through-file": "top/x",
    "dot-of-file": "top/.",
    "nul": "..\0/top",
}
FILES = ("top", "dir/file", "dir/inner/deep/file")
ENDS: dict[str, str | int] = {
    "dir/beside": "dir/file",
    "dir/up": "top",
    "dir/rooted": "dir/file",
    "dir/root": "",
    "dir/self": "dir",
    "dir/out": errno.ENOENT,
    "dir/in-and-out": errno.ENOENT,
    "dir/round": "dir/file",
    "rooted-out": errno.ENOENT,
    "absolute": errno.ENOENT,
    "by-link": "dir/file",
    "behind-link": "dir/file",
    "loop": errno.ELOOP,
    "one": errno.ELOOP,
    "through-file": errno.ENOTDIR,
    "dot-of-file": errno.ENOTDIR,
    "nul": errno.ENOENT,
    "to-inner/deep/file": "dir/inner/deep/file",
    "to-inner/../file": "dir/file",
    "../top": errno.ENOENT,
    "missing": errno.ENOENT,
}


@pytest.mark.parametrize("path", ENDS)
async def test_a_path_is_followed_to_its_end_inside_the_drive(path: str) -> None:
    own = await drive_with(LINKS, files=FILES)
    assert await end_of(own.drive.snapshot(), path) == ENDS[path]


SHOWN: dict[str, str | int] = {
    "dir/beside": "file",
    "dir/up": "../top",
    "dir/rooted": "../dir/file",
    "dir/root": "../",
    "dir/out": errno.ENOENT,
    "dir/in-and-out": errno.ENOENT,
    "dir/round": "../dir/file",
    "absolute": "etc/passwd",
    "rooted-out": errno.ENOENT,
    "behind-link": "dir/file",
    "loop": "loop",
    "nul": errno.ENOENT,
    "top": errno.EINVAL,
}


@pytest.mark.parametrize("path", SHOWN)
async def test_a_target_is_shown_so_that_it_stays_inside(path: str) -> None:
    own = await drive_with(LINKS, files=FILES)
    assert await shown_target(own.drive.snapshot(), path) == SHOWN[path]


async def test_a_chain_as_long_as_linux_allows_is_followed_and_no_longer_one() -> None:
    chain = {f"{number}": f"{number + 1}" for number in range(MAX_FOLLOWED + 1)}
    own = await drive_with(chain, files=(str(MAX_FOLLOWED + 1),))
    snapshot = own.drive.snapshot()
    assert await end_of(snapshot, "1") == str(MAX_FOLLOWED + 1)
    assert await end_of(snapshot, "0") == errno.ELOOP


async def test_a_link_of_thousands_of_names_is_no_lookup_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "/".join("d" * 1000)
    own = await drive_with({"link": f"/{deep}/back/f", f"{deep}/back": f"/{deep}"}, files=(f"{deep}/f",))
    lookups = 0
    stat = Snapshot.stat

    async def count(snapshot: Snapshot, path: str) -> Entry:
        nonlocal lookups
        lookups += 1
        return await stat(snapshot, path)

    monkeypatch.setattr(Snapshot, "stat", count)
    assert (await follow(own.drive.snapshot(), "link")).path == f"{deep}/f"
    assert lookups < 50


async def test_a_mounted_drive_holds_its_own_links() -> None:
    """Its author knows neither where it is mounted nor what is beside it."""
    inner = await drive_with(
        {"dir/rooted": "/file", "dir/up": "../file", "out": "../own", "deep/out": "../../own"}, files=("file",)
    )
    outer = await new_drive(inner.cores)
    await outer.writer.put_file("own", b"")
    await outer.writer.symlink("into", "mounted/here/dir/rooted")
    await outer.writer.mount("mounted/here", inner.drive.key)
    snapshot = outer.drive.snapshot()
    assert await end_of(snapshot, "mounted/here/dir/rooted") == "mounted/here/file"
    assert await shown_target(snapshot, "mounted/here/dir/rooted") == "../file"
    assert await end_of(snapshot, "mounted/here/dir/up") == "mounted/here/file"
    assert await end_of(snapshot, "mounted/here/out") == errno.ENOENT
    assert await shown_target(snapshot, "mounted/here/deep/out") == errno.ENOENT
    assert await end_of(snapshot, "into") == "mounted/here/file"
    assert await end_of(snapshot, "mounted/here/../../own") == "own"


@pytest.mark.parametrize("seed", range(12))
async def test_a_folder_with_the_shown_targets_leads_where_the_drive_does(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    steps = ["a", "b", "c", "..", "..", ".", "", "f"]

    def some_path() -> str:
        return "/".join(chance.choice(steps) for _ in range(chance.randint(1, 6))) or "a"

    own = await new_drive()
    for _ in range(40):
        place = "/".join(chance.choices("abcf", k=chance.randint(1, 4)))
        try:
            if chance.random() < 0.6:
                await own.writer.symlink(place, some_path())
            else:
                await own.writer.put_file(place, place.encode())
        except PathError:
            continue
    snapshot = own.drive.snapshot()
    root = tmp_path / "outer/root"
    root.mkdir(parents=True)
    entries: list[Entry] = [entry async for entry in snapshot.walk()]
    for entry in entries:
        local = root / entry.path
        if entry.is_directory:
            local.mkdir()
        elif not entry.is_link:
            local.write_bytes(entry.path.encode())
        elif isinstance(target := await shown_target(snapshot, entry.path), str):
            os.symlink(target, local)
        else:
            os.symlink("nowhere-at-all", local)
    for path in [entry.path for entry in entries] + [
        "/".join(part for part in some_path().split("/") if part not in ("", "..")) for _ in range(100)
    ]:
        led = await end_of(snapshot, path)
        check_local(root, path, led)


def check_local(root: Path, path: str, led: str | int) -> None:
    """Check that ``path`` below ``root`` leads where it does in the drive."""
    local = f"{root}/{path}"  # not a Path, which forgets a dot at the end
    assert (os.path.realpath(local) + "/").startswith(f"{root}/")
    if isinstance(led, str):
        assert os.path.samefile(local, root / led)
    else:
        assert not os.path.exists(local)
