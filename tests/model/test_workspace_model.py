"""A workspace against a plain dict of paths, over random operations, commits, crashes and reopenings."""

import errno
import shutil
import stat as st
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as hs
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hyperfs.errors import PathError
from hyperfs.mount.staging.namespace import Renaming
from tests.support.workspaces import Paths

NAMES = hs.sampled_from(["a", "b", "c"])
PATHS = hs.lists(NAMES, min_size=1, max_size=3).map("/".join)
DATA = hs.binary(min_size=0, max_size=40)


class Model:
    """What POSIX says: directories are None, files their bytes."""

    def __init__(self) -> None:
        self.tree: dict[str, bytes | None] = {}

    def parent(self, path: str) -> None:
        parts = path.split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            if above not in self.tree:
                raise FileNotFoundError(above)
            if self.tree[above] is not None:
                raise NotADirectoryError(above)

    def below(self, path: str) -> list[str]:
        return [other for other in self.tree if other.startswith(f"{path}/")]

    def make(self, path: str, content: bytes | None) -> None:
        self.parent(path)
        if path in self.tree:
            raise FileExistsError(path)
        self.tree[path] = content

    def file(self, path: str) -> bytes:
        self.parent(path)
        content = self.tree[path] if path in self.tree else self._absent(path)
        if content is None:
            raise IsADirectoryError(path)
        return content

    def write(self, path: str, data: bytes, position: int) -> None:
        content = self.file(path)
        if data:
            content = content.ljust(position, b"\0")
            self.tree[path] = content[:position] + data + content[position + len(data) :]

    def truncate(self, path: str, size: int) -> None:
        self.tree[path] = self.file(path)[:size].ljust(size, b"\0")

    def unlink(self, path: str) -> None:
        self.file(path)
        del self.tree[path]

    def rmdir(self, path: str) -> None:
        self.parent(path)
        content = self.tree[path] if path in self.tree else self._absent(path)
        if content is not None:
            raise NotADirectoryError(path)
        if self.below(path):
            raise OSError(errno.ENOTEMPTY, path)
        del self.tree[path]

    def rename(self, old: str, new: str, how: Renaming) -> None:
        self.parent(old)
        self.parent(new)
        if old not in self.tree:
            raise FileNotFoundError(old)
        if new.startswith(f"{old}/"):
            raise OSError(errno.EINVAL, old)
        if new in self.tree and how is Renaming.NO_REPLACE:
            raise FileExistsError(new)
        if how is Renaming.EXCHANGE:
            if new not in self.tree:
                raise FileNotFoundError(new)
            if old.startswith(f"{new}/"):
                raise OSError(errno.EINVAL, old)
        if old == new:
            return
        there = self.take(new)
        try:
            if there and how is Renaming.REPLACE:
                if there[new] is None and self.tree[old] is not None:
                    raise IsADirectoryError(new)
                if there[new] is not None and self.tree[old] is None:
                    raise NotADirectoryError(new)
                if len(there) > 1 or old.startswith(f"{new}/"):
                    raise OSError(errno.ENOTEMPTY, new)
        except OSError:
            self.tree |= there
            raise
        moved = self.take(old)
        self.tree |= {new + path[len(old) :]: content for path, content in moved.items()}
        if how is Renaming.EXCHANGE:
            self.tree |= {old + path[len(new) :]: content for path, content in there.items()}

    def take(self, path: str) -> dict[str, bytes | None]:
        if path not in self.tree:
            return {}
        kept = {other: self.tree[other] for other in self.below(path)} if self.tree[path] is None else {}
        return {other: self.tree.pop(other) for other in [path, *kept]}

    def _absent(self, path: str) -> None:
        raise FileNotFoundError(path)


class WorkspaceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.model = Model()
        self.paths: Paths = self.run(Paths.open, self.directory)

    @initialize(at_once=hs.booleans())
    def choose(self, at_once: bool) -> None:
        self.paths.at_once = at_once

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @staticmethod
    def run(action: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
        return trio.run(action, *arguments)

    def both(self, real: Callable[[], Coroutine[Any, Any, Any]], expected: Callable[[], None]) -> None:
        """Do it to both; they succeed, or fail with the same errno."""
        wanted = None
        try:
            expected()
        except OSError as error:
            wanted = error.errno or _CODES[type(error)]
        found = None
        try:
            self.run(real)
        except PathError as error:
            found = error.errno
        except FileNotFoundError:
            found = errno.ENOENT
        assert found == wanted

    @rule(path=PATHS, data=DATA)
    def make_file(self, path: str, data: bytes) -> None:
        async def real() -> None:
            await self.paths.make(path)
            if data:
                await self.paths.write(path, data)

        self.both(real, lambda: self.model.make(path, data))

    @rule(path=PATHS)
    def make_directory(self, path: str) -> None:
        self.both(lambda: self.paths.mkdir(path), lambda: self.model.make(path, None))

    @rule(path=PATHS, data=DATA, position=hs.integers(0, 60))
    def write(self, path: str, data: bytes, position: int) -> None:
        self.both(lambda: self.paths.write(path, data, position), lambda: self.model.write(path, data, position))

    @rule(path=PATHS, size=hs.integers(0, 80))
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda: self.paths.truncate(path, size), lambda: self.model.truncate(path, size))

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda: self.paths.unlink(path), lambda: self.model.unlink(path))

    @rule(path=PATHS)
    def remove_directory(self, path: str) -> None:
        self.both(lambda: self.paths.rmdir(path), lambda: self.model.rmdir(path))

    @rule(old=PATHS, new=PATHS, how=hs.sampled_from(Renaming))
    def rename(self, old: str, new: str, how: Renaming) -> None:
        self.both(lambda: self.paths.rename(old, new, how), lambda: self.model.rename(old, new, how))

    @rule(path=PATHS, mode=hs.sampled_from([0o600, 0o644, 0o755]))
    def change_mode(self, path: str, mode: int) -> None:
        async def real() -> None:
            attributes = await self.paths.set_attributes(path, mode=mode)
            assert st.S_IMODE(attributes.mode) == mode

        if path in self.model.tree:
            self.run(real)

    @rule()
    def commit(self) -> None:
        self.run(self.paths.commit)
        assert self.run(self.paths.drive_tree) == self.model.tree

    @rule(path=PATHS, data=DATA)
    def commit_while_it_goes_on(self, path: str, data: bytes) -> None:
        """Between the instant of a commit and its end, other things happen; it holds none of them."""
        before = dict(self.model.tree)

        async def real() -> None:
            committer = self.paths.own.committer
            commit = committer.commit

            async def later(*arguments: Any, **keywords: Any) -> int:
                version = await commit(*arguments, **keywords)
                committer.commit = commit  # type: ignore[method-assign]
                self.inside(path, data)
                await self.do_inside()
                return version

            committer.commit = later  # type: ignore[method-assign]
            try:
                await self.paths.commit()
            finally:
                committer.commit = commit  # type: ignore[method-assign]
            assert await self.paths.drive_tree() == before

        self.run(real)

    def inside(self, path: str, data: bytes) -> None:
        self._inside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        top = path.partition("/")[0]
        if top in self.model.tree and f"{top}2" not in self.model.tree:
            self.model.rename(top, f"{top}2", Renaming.REPLACE)
            self._inside.append(lambda: self.paths.rename(top, f"{top}2"))
        if top not in self.model.tree:
            self.model.make(top, data)
            self._inside.append(lambda: self.paths.put(top, data))
        for other in [p for p, content in self.model.tree.items() if content is not None][:2]:
            self.model.write(other, b"during", 3)
            self._inside.append(lambda other=other: self.paths.write(other, b"during", 3))  # type: ignore[misc]
        gone = next((p for p, content in self.model.tree.items() if content is not None and p != top), None)
        if gone is not None:
            self.model.unlink(gone)
            self._inside.append(lambda: self.paths.unlink(gone))

    async def do_inside(self) -> None:
        for action in self._inside:
            await action()

    @rule()
    def fail_to_commit(self) -> None:
        async def real() -> None:
            committer = self.paths.own.committer
            commit = committer.commit

            async def refuse(*arguments: Any, **keywords: Any) -> int:
                raise OSError(errno.ENOSPC, "full")

            committer.commit = refuse  # type: ignore[method-assign]
            try:
                with suppress(OSError):  # nothing to commit, or a full disk
                    await self.paths.commit()
            finally:
                committer.commit = commit  # type: ignore[method-assign]

        self.run(real)

    @rule()
    def die_and_come_back(self) -> None:
        at_once = self.paths.at_once
        self.paths = self.run(Paths.open, self.directory, self.paths.own)
        self.paths.at_once = at_once

    @invariant()
    def shows_the_same(self) -> None:
        assert self.run(self.paths.tree) == self.model.tree


_CODES = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR,
}

WorkspaceMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestWorkspaceModel = WorkspaceMachine.TestCase
