"""What is written through a mount, read by the reference implementation: the same bytes, however they came about."""

import random
from pathlib import Path
from typing import Any, cast

import trio

from tests.support.clones import clone, comparable
from tests.support.drives import OwnDrive
from tests.support.joined_mounts import Writers, mounted
from tests.support.our_peer import OurPeer, our_peer
from tests.support.patterns import sha256
from tests.support.reference import reference_peer
from tests.support.workspaces import Paths

DEADLINE_SECONDS = 240.0
LARGEST_BYTES = 1_300_000
FILES = [f"f{number}" for number in range(12)]


async def own_drive(peer: OurPeer) -> OwnDrive:
    drive, writer = await peer.new_drive()
    return OwnDrive(cast(Any, None), cast(Any, None), cast(Any, None), drive, writer, cast(Any, writer.committer))


async def staged_over(peer: OurPeer, directory: Path) -> tuple[Paths, str]:
    own = await own_drive(peer)
    return await Paths.open(directory, own), own.drive.key.hex()


async def change(paths: Paths, chance: random.Random) -> None:
    """Write to, cut off, make longer, rename or remove a file, small ones and some of several blocks."""
    tree = {path for path in FILES if await paths.workspace.find(1, path) is not None}
    path, other = chance.choice(FILES), chance.choice(FILES)
    size = chance.randrange(chance.choice([40, 3_000, LARGEST_BYTES]))
    if path not in tree:
        await paths.put(path, chance.randbytes(size))
        return
    match chance.choice(["write", "append", "truncate", "truncate", "rename", "unlink", "mode"]):
        case "write":
            await paths.write(path, chance.randbytes(chance.randrange(1, 5_000)), size)
        case "append":
            at = (await paths.workspace.attributes(await paths.number(path))).size
            await paths.write(path, chance.randbytes(100), at)
        case "truncate":
            await paths.truncate(path, size)
        case "rename":
            await paths.rename(path, other)
        case "unlink":
            await paths.unlink(path)
        case "mode":
            await paths.set_attributes(path, mode=chance.choice([0o600, 0o644]))


async def test_the_reference_reads_what_random_operations_left(tmp_path: Path) -> None:
    chance = random.Random(17)
    with trio.fail_after(DEADLINE_SECONDS):
        async with our_peer(tmp_path / "ours") as ours, reference_peer() as theirs:
            paths, key = await staged_over(ours, tmp_path / "staging")
            await theirs.call("drive.open", key=key)
            await theirs.connect(await ours.listen())
            for _ in range(12):
                for _ in range(chance.randrange(1, 12)):
                    await change(paths, chance)
                version = (await paths.commit()).version
                cloned = await clone(paths.own.drive.snapshot())
                await theirs.call("drive.update", drive=key, version=version)
                assert comparable(await theirs.call("drive.clone", drive=key), cloned) == cloned


async def test_the_reference_reads_what_was_written_through_the_drives_around(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with our_peer(tmp_path / "ours") as ours, reference_peer() as theirs:
            outer, middle, innermost = [await own_drive(ours) for _ in range(3)]
            await middle.writer.mount("b", innermost.drive.key)
            await outer.writer.mount("a", middle.drive.key)
            async with mounted(Writers(tmp_path / "staging", outer, middle, innermost), outer) as mount:
                for path in ("f", "a/f", "a/b/f"):
                    await mount.put(path, path.encode())
            key = outer.drive.key.hex()
            await theirs.call("drive.open", key=key)
            await theirs.connect(await ours.listen())
            await theirs.call("drive.update", drive=key, version=outer.drive.version)
            cloned = await clone(outer.drive.snapshot())
            assert comparable(await theirs.call("drive.clone", drive=key), cloned) == cloned
            for path in ("f", "a/f", "a/b/f"):
                read = await theirs.call("drive.read", drive=key, path=f"/{path}")
                assert read["sha256"] == sha256(path.encode())
