"""Whatever is done to a drive, its mount shows the same as a plain folder to which the same was done."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.mounts import Mounted, comes_true

NAMES = st.sampled_from(["a", "b", "ü", "d d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OPERATIONS = st.one_of(
    st.tuples(st.just("file"), PATHS, st.integers(0, 3000)),
    st.tuples(st.just("folder"), PATHS, st.just(0)),
    st.tuples(st.just("link"), PATHS, st.integers(1, 3)),
    st.tuples(st.just("mode"), PATHS, st.sampled_from([0o600, 0o644, 0o755])),
    st.tuples(st.just("delete"), PATHS, st.just(0)),
)
EXAMPLES = count()


@dataclass
class Model:
    """A plain folder, and which of its folders are more than implied."""

    root: Path
    made: set[Path] = field(default_factory=set)

    def apply(self, what: str, path: str, number: int) -> str | None:
        """Do it here; return what does the same to the drive, or None when nothing would."""
        target = self.root / path
        if any((above.exists() and not above.is_dir()) or above.is_symlink() for above in self._above(target)):
            return None
        if what == "file" and not (target.is_dir() and not target.is_symlink()):
            self._clear(target)
            content = bytes([number % 256]) * number
            target.write_bytes(content)
            target.chmod(0o644)
            return f"await own.writer.put_file(PATH, bytes([{number % 256}]) * {number})"
        if what == "folder" and not os.path.lexists(target):
            target.mkdir(parents=True)
            self.made.add(target)
            return "await own.writer.make_directory(PATH)"
        if what == "link" and not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to("x" * number)
            return f"await own.writer.symlink(PATH, 'x' * {number})"
        if what == "mode" and target.is_file() and not target.is_symlink():
            target.chmod(number)
            return f"await own.writer.set_stat(PATH, mode=0o100000 | {number})"
        if what == "delete" and os.path.lexists(target):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
                self.made = {made for made in self.made if target != made and target not in made.parents}
            else:
                target.unlink()
            self._prune(target.parent)
            return "await own.writer.delete_tree(PATH)"
        return None

    def _above(self, target: Path) -> Iterator[Path]:
        for above in target.parents:
            if above == self.root:
                return
            yield above

    def _clear(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)

    def _prune(self, folder: Path) -> None:
        while folder != self.root and folder not in self.made and not os.listdir(folder):
            folder.rmdir()
            folder = folder.parent


def shown(root: Path) -> dict[str, tuple[object, ...]] | None:
    """Return everything below a folder that a program can see and both sides must agree on.

    None when something went while it was looked at, as happens while a mount moves to another version.
    """
    try:
        return looked_at(root)
    except FileNotFoundError:
        return None


def looked_at(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what `shown` does; raises FileNotFoundError when something went meanwhile."""
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        stat = path.lstat()
        if path.is_symlink():
            found[str(path.relative_to(root))] = ("link", os.readlink(path), stat.st_size)
        elif path.is_dir():
            found[str(path.relative_to(root))] = ("folder", stat.st_mode, *sorted(os.listdir(path)))
        else:
            found[str(path.relative_to(root))] = ("file", stat.st_mode, stat.st_size, path.read_bytes())
    return found


@contextmanager
def shared_mount() -> Iterator[Mounted]:
    """Mount an empty drive for all examples of a test: each has a folder of its own in it."""
    with tempfile.TemporaryDirectory() as folder, Mounted(Path(folder) / "drive") as mounted:
        yield mounted


def test_a_mount_shows_what_a_plain_folder_would() -> None:
    with shared_mount() as mounted:

        @settings(max_examples=25, deadline=None)
        @given(st.lists(OPERATIONS, max_size=8))
        def check(operations: list[tuple[str, str, int]]) -> None:
            name = f"example-{next(EXAMPLES)}"
            with tempfile.TemporaryDirectory() as folder:
                model = Model(Path(folder))
                for operation in operations:
                    does = model.apply(*operation)
                    if does is not None:
                        mounted.run(does.replace("PATH", repr(f"{name}/{operation[1]}")))
                        expected = shown(model.root)
                        assert comes_true(lambda expected=expected: shown(mounted.path / name) == expected)

        check()
