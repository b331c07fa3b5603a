"""A drive whose owner is hostile, looked at in every way that the commands know, and exported.

It is signed with a real key, and holds what no honest writer would put there: names, sizes, times, modes, links,
attributes, mounts and tags of any value. Whatever is asked of it ends, within a bound of memory, in an answer or in an
error that says what is wrong; what is exported stays in its folder.
"""

import json
import random
import resource
import stat as st
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from hyperfs import varint
from hyperfs.cli.browse import _stat_fields
from hyperfs.cli.output import mode_text, shown, size_text, time_text
from hyperfs.drive import names
from hyperfs.drive.changes import changes, differences
from hyperfs.drive.committer import LocalCommitter
from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.drive.exporter import export
from hyperfs.drive.folder import part_name
from hyperfs.drive.history import history
from hyperfs.drive.links import confined_target, follow
from hyperfs.drive.prune import Keep, plan_prune
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import MountTarget, Stat, encode_mount_record, encode_stat
from hyperfs.drive.usage import content_end, usage
from hyperfs.errors import HyperfsError
from hyperfs.trie import Delete, DeleteTree, Header, Operation, Put
from tests.support.drives import RealCores

Answer = TypeVar("Answer")

SEEDS = 30
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 512 << 20
"""What one run may take beyond what the process has already, as address space."""
_LOOKED_AT = 400
"""How many entries of a walk are looked at: an owner may well have a drive of many."""
_BLOCKS = 8
_NAMES = [
    *("a", "b", "c", "dir", "..", ".", "", "\0", "x\0y", "a\\b", "..\\..", "\n", "\x1b[31m", "é", "e\u0301", "\ufeff"),
    *("n" * 255, "n" * 256, "\N{GRINNING FACE}" * 64, " ", "-rf", "con", part_name("a", b""), "~", "a" * 4000),
]
_KINDS = [*(st.S_IFREG,) * 8, *(st.S_IFLNK,) * 4, st.S_IFDIR, st.S_IFDIR, st.S_IFIFO, st.S_IFBLK, 0, 0xF000, 1 << 31]
_NUMBERS = [0, 0, 1, 1, 2, 5, 100, 3000, 1 << 20, 1 << 32, 1 << 52, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]
_ATTRIBUTES = ["user.a", "user.", "trusted.x", "a\0b", "user." + "n" * 300]
_TARGETS = [
    *("", "/", ".", "..", "../..", "/..", "/etc/passwd", "../" * 30 + "etc/passwd", "a\0/../..", "..\0"),
    *("a/" * 2500, "../a/" * 500, "\udcff", "x" * 5000),
]


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    machine = Hostile(random.Random(seed))
    with _bounded_memory(), _folder() as folder:
        trio.run(machine.run, folder)
    return "\n".join(machine.told)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hyperfs-hostile-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        # shutil's way is recursive, and these folders are deep.
        subprocess.run(["rm", "-rf", folder], check=True)


class Hostile:
    """One run."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.told: list[str] = []
        self.paths: list[str] = []
        self.keys: list[bytes] = []
        self.sizes: list[int] = []

    async def run(self, folder: Path) -> None:
        cores = RealCores()
        try:
            for number in range(2):
                await self.make_drive(cores, number)
            drive = await Drive.open(cores, self.keys[self.chance.randrange(2)])
            await self.look(drive, drive.snapshot())
            for name in ("copied", "followed"):
                await self.copy(drive.snapshot(), folder, name, follow_links=name == "followed")
        finally:
            await cores.close()

    # What is in the drive

    async def make_drive(self, cores: RealCores, number: int) -> None:
        metadata, content = [await cores.make(bytes([number, part]) * 16) for part in range(2)]
        self.keys.append(metadata.key)
        await metadata.append([Header(content.key, "hyperdrive").encode()])
        blocks = [self.chance.randbytes(self.chance.randint(1, 3000)) for _ in range(_BLOCKS)]
        self.sizes = list(map(len, blocks))
        await content.append(blocks)
        committer = LocalCommitter(metadata, content)
        for _ in range(self.chance.randint(1, 4)):
            operations = [self.operation() for _ in range(self.chance.randint(1, 20))]
            for operation in operations:
                self.told.append(f"drive {number}: {operation!r:.200}")
                try:
                    await committer.commit([operation])
                except HyperfsError as error:
                    self.told.append(f"  no key of a trie: {error!s:.100}")

    def operation(self) -> Operation:
        chance = self.chance
        kind = chance.random()
        if kind < 0.7:
            return Put(self.path(), self.value(), flags=chance.choice([0, 0, 0, 1, 2, (1 << 23) - 1]))
        if kind < 0.8:
            target = MountTarget(chance.choice([*self.keys, bytes(32)]), chance.choice([None, 1, 2, 1 << 60]))
            record = chance.choice([encode_mount_record("x", target), chance.randbytes(40)])
            return Put(f"mounts/{self.path()}", record, flags=1, hidden=True)
        if kind < 0.9:
            value = chance.choice([varint.encode(self.number()), b"", b"\xff" * 9])
            return Put(f"hyperdrive-tags/{self.path()}", value, hidden=True)
        path = self.path()
        return chance.choice([Delete(path), DeleteTree(path)])

    def path(self) -> str:
        chance = self.chance
        if self.paths and chance.random() < 0.5:
            path = chance.choice(self.paths) + chance.choice(["", "/x", "/..", "/" + self.name()])
        else:
            path = "/".join(self.name() for _ in range(chance.choice([1, 1, 2, 3, 9])))
        if chance.random() < 0.02:
            path = "d/" * chance.choice([100, 100, 300, 2500]) + path
        self.paths.append(path[:6000])
        return path

    def name(self) -> str:
        return self.chance.choice("abcd") if self.chance.random() < 0.6 else self.chance.choice(_NAMES)

    def value(self) -> bytes | None:
        """Return the Stat of an honest entry, of which a field or more are bent; or no Stat at all."""
        chance = self.chance
        if chance.random() < 0.05:
            return chance.choice([None, b"", chance.randbytes(chance.randint(1, 60))])
        kind = chance.choice(_KINDS)
        first, last = sorted(chance.choices(range(_BLOCKS + 1), k=2))
        fields: dict[str, Any] = {"mode": kind | chance.choice([0o644, 0o755, 0, 0o7777])}
        if kind == st.S_IFLNK:
            fields["linkname"] = self.link()
        elif kind == st.S_IFREG:
            before, size = sum(self.sizes[:first]), sum(self.sizes[first:last])
            fields |= {"size": size, "blocks": last - first, "offset": first, "byte_offset": before}
        while chance.random() < 0.4:
            fields |= chance.choice(
                [
                    {chance.choice(["size", "blocks", "offset", "byte_offset", "mtime", "ctime"]): self.number()},
                    {chance.choice(["uid", "gid"]): self.number() & 0xFFFFFFFF},
                    {"mode": chance.choice(_KINDS) | 0o6777},
                    {"linkname": self.link()},
                    {"mount": self.mount()},
                    {"attributes": {chance.choice(_ATTRIBUTES): bytes(chance.choice([0, 1, 70_000]))}},
                ]
            )
        return encode_stat(Stat(**fields))

    def mount(self) -> MountTarget:
        chance = self.chance
        key = chance.choice([*self.keys, bytes(32), b"short"])
        return MountTarget(key, chance.choice([None, 1, 1 << 62]), is_core=chance.random() < 0.5)

    def number(self) -> int:
        return self.chance.choice(_NUMBERS)

    def link(self) -> str:
        chance = self.chance
        if self.paths and chance.random() < 0.5:
            return chance.choice(["/", "../", "", "./", "//"]) + chance.choice(self.paths)
        return chance.choice(_TARGETS)

    # What is asked

    async def look(self, drive: Drive, snapshot: Snapshot) -> None:
        async def walk() -> None:
            looked_at = 0
            async with aclosing(snapshot.walk()) as entries:
                async for entry in entries:
                    await self.look_at(snapshot, entry)
                    looked_at += 1
                    if looked_at == _LOOKED_AT:
                        break
            self.told.append(f"walked past {looked_at} entries")

        older = drive.volume.metadata.length // 2 or 1
        past = Snapshot(drive.volume, older, ((drive.key, older),))
        await self.ask(walk)
        await self.ask(lambda: _drain(snapshot.list("", raw=True)))
        await self.ask(snapshot.tags)
        await self.ask(snapshot.mounts)
        await self.ask(lambda: usage(snapshot))
        content_end(snapshot)
        for count in (1, 3):
            await self.ask(lambda count=count: plan_prune(snapshot, Keep(count, 3600, tags=True), now=1 << 41))
        await self.ask(lambda: _drain(changes(snapshot, past)))
        await self.ask(lambda: _drain(differences(snapshot, past)))
        await self.ask(lambda: _drain(history(snapshot, limit=50)))
        for path in self.chance.sample(self.paths, min(20, len(self.paths))):
            await self.ask(lambda path=path: self.look_at_path(snapshot, path))

    async def look_at_path(self, snapshot: Snapshot, path: str) -> None:
        entry = await follow(snapshot, path)
        assert not entry.is_link
        again = await snapshot.stat(entry.path)
        assert (again.volume.key, again.inner_path) == (entry.volume.key, entry.inner_path)

    async def look_at(self, snapshot: Snapshot, entry: Entry) -> None:
        stat = entry.stat
        assert names.is_presentable(entry.name)
        for text in (mode_text(stat.mode), size_text(stat.size), time_text(stat.mtime), shown(entry.name)):
            assert isinstance(text, str)
        json.dumps(_stat_fields(stat))
        now = snapshot.stat_now(entry.path)
        assert now is None or now == entry
        await self.ask(lambda: snapshot.stat(entry.path))
        if entry.is_link:
            await self.ask(lambda: self.look_at_path(snapshot, entry.path))
            target = await self.ask(lambda: confined_target(snapshot, entry))
            assert target is None or not _leads_out(entry, target)

        async def read() -> None:
            file = await snapshot.open(entry)
            for position in (0, self.number()):
                await file.read(position, 1 << 16)
                file.read_now(position, 1 << 16)

        await self.ask(read)

    async def copy(self, snapshot: Snapshot, folder: Path, name: str, *, follow_links: bool) -> None:
        target = folder / name / "target"
        where = "" if self.chance.random() < 0.7 else self.chance.choice(self.paths)
        await self.ask(lambda: export(snapshot, target, path=where, follow_links=follow_links))
        copied = _check_copy(folder, target, follow_links=follow_links)
        self.told.append(f"exported {copied} files to {name}")

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Return the answer, or None when it is an error that says what is wrong."""
        try:
            return await question()
        except (HyperfsError, OSError) as error:
            self.told.append(f"{type(error).__name__}: {error!s:.100}")
            return None


async def _drain(items: AsyncGenerator[Any, None]) -> None:
    async with aclosing(items):
        async for _ in items:
            pass


def _check_copy(folder: Path, target: Path, *, follow_links: bool) -> int:
    """Check that nothing outside of ``target`` was touched, and nothing dangerous is in it; return how many files."""
    assert {path.name for path in folder.iterdir()} <= {"copied", "followed"}
    if not target.exists():
        return 0
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    # os.fwalk is recursive, and these folders are deep.
    listed = subprocess.run(["find", target, "-type", "f,l", "-printf", "%y %m\\n"], capture_output=True, check=True)
    found = [line.split() for line in listed.stdout.decode().splitlines()]
    assert all(int(mode, 8) <= 0o777 for _, mode in found)
    assert not (follow_links and any(kind == "l" for kind, _ in found))
    return len(found)


def _leads_out(link: Entry, target: str) -> bool:
    """Tell whether whoever follows ``target`` climbs above the drive's root, other links left aside."""
    depth = link.inner_path.count("/")
    for part in target.split("\0")[0].split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return True
    return target.startswith("/")
