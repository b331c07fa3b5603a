"""What an import leaves out because its user says so: patterns, and `.hyperfsignore` files, in gitignore's language.

The rules are git's: of several patterns that a path matches the last one counts; those in a directory's file come after
those in the files above it, and those that are given for the import after all others. Nothing below a directory that is
left out is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hyperfs.drive import names
from hyperfs.errors import UsageError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE: Final = ".hyperfsignore"


class Ignoring:
    """Knows the patterns for an import, and those of the directories it has come to. Plain code for a worker thread."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        """Raises `UsageError` for a pattern that is none."""
        self._given = _compiled(patterns, "--exclude") if patterns else None
        self._of_directories: dict[str, GitIgnoreSpec] = {}

    def enter(self, folder: Path, directory: str) -> None:
        """Take in what the file in ``directory``, below ``folder``, says. Raises `UsageError`, OSError."""
        file = folder / directory / IGNORE_FILE
        try:
            text = file.read_bytes()
        except (FileNotFoundError, IsADirectoryError):  # gone since it was listed, or something else by that name
            return
        self._of_directories[directory] = _compiled(os.fsdecode(text).splitlines(), str(file))

    def leaves_out(self, path: str, *, is_directory: bool) -> bool:
        """Tell whether ``path``, in a directory that is not left out itself, is left out."""
        below = f"{path}/" if is_directory else path
        if self._given is not None and (said := self._given.check_file(below).include) is not None:
            return said
        for directory in reversed(["", *names.ancestors(path)]) if self._of_directories else ():
            spec = self._of_directories.get(directory)
            if spec is not None:
                said = spec.check_file(below[len(directory) + 1 :] if directory else below).include
                if said is not None:
                    return said
        return False


def _compiled(lines: Sequence[str], where: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
