"""The drives that are far away, each made once for a run and only when a figure needs it."""

import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.network.sides import Served, make_drive
from bench.workspace import Workspace, write_large

SMALL_BYTES = 100
FILES_IN_FOLDER = 50
FILM_BYTES = 64 << 20


@dataclass
class Drives:
    """Each is a store that holds one drive; a quick run's are a tenth as large."""

    workspace: Workspace

    @cached_property
    def walked(self) -> Served:
        """10,000 small files in 200 folders."""
        return self._tree(self.workspace.scaled(200))

    @cached_property
    def walked_long(self) -> Served:
        """100,000 small files in 2,000 folders."""
        return self._tree(self.workspace.scaled(2_000))

    @cached_property
    def folder(self) -> Served:
        """``many``, a folder of 2,000 small files, among 100 folders of others."""
        source = self._source(self.workspace.scaled(100))
        _small_files(source / "many", self.workspace.scaled(2_000))
        return make_drive(self.workspace, source)

    @cached_property
    def deep(self) -> Served:
        """``a/b/c/file`` and all that are above it, each with a file, beside 10,000 small files."""
        source = self._source(self.workspace.scaled(200))
        for folder in ("", "a", "a/b", "a/b/c"):
            (source / folder).mkdir(exist_ok=True)
            (source / folder / "file").write_bytes(os.urandom(SMALL_BYTES))
        return make_drive(self.workspace, source)

    @cached_property
    def repository(self) -> Served:
        """A git working tree of 2,000 files, all of them committed."""
        source = self._source(self.workspace.scaled(40))

        def git(*arguments: str) -> None:
            who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.com", "-c", "init.defaultBranch=main")
            subprocess.run(["git", *who, "-C", source, *arguments], check=True, capture_output=True)

        git("init")
        git("add", ".")
        git("commit", "-m", "Add everything")
        git("gc")
        return make_drive(self.workspace, source)

    @cached_property
    def film(self) -> Served:
        """``film.bin`` of 64 MiB."""
        source = self.workspace.new_directory("source")
        source.mkdir()
        write_large(source / "film.bin", self.film_bytes)
        return make_drive(self.workspace, source)

    @property
    def film_bytes(self) -> int:
        """The size of the film."""
        return self.workspace.scaled(FILM_BYTES >> 20) << 20

    def _tree(self, folders: int) -> Served:
        return make_drive(self.workspace, self._source(folders))

    def _source(self, folders: int) -> Path:
        source = self.workspace.new_directory("source")
        for folder in range(folders):
            _small_files(source / f"folder-{folder:04}", FILES_IN_FOLDER)
        return source


def _small_files(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"file-{number:04}.txt").write_bytes(os.urandom(SMALL_BYTES))
