"""Files in which options are set once and for all: the user's, and one of the whole machine.

The rules: what stands in a file counts as a whole or not at all, and whoever may write to one can do no more than whom
it is read for. Nothing is loaded, and one name looked for, where there is no file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hyperfs.errors import UsageError

SYSTEM_PATH: Final = Path("/etc/hyperfs/config.toml")
MAX_BYTES: Final = 1 << 14
"""No file is longer."""
_MAX_DEPTH: Final = 8
_TOKEN: Final = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|"(?:\\.|[^"\\])*"|'''
    r"""'''.*?'{3,5}|'[^']*'|#[^\n]*|[][{}\n]""",
    re.DOTALL,
)
"""What may hold a line's end that ends no statement: strings, comments, and brackets, within which it does not."""
_AT_LINE: Final = re.compile(r" ?\(at line ([0-9]+), column [0-9]+\)")


class ConfigError(UsageError):
    """A file cannot be read, or says something that means nothing; the message names file and line."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What one file says: ``values`` as TOML has them, options in tables for single commands among them."""

    path: Path
    text: str
    values: dict[str, Any]

    def line_of(self, *keys: str) -> int:
        """Return the line, counted from 1, in which the value or the table begins that ``keys`` lead to."""
        for line, path in _statements(self.text):
            if path[: len(keys)] == keys:
                return line
        raise KeyError(keys)

    def wrong(self, problem: str, *keys: str) -> ConfigError:
        """Return the error for what stands at ``keys``."""
        return ConfigError(f"{self.path}:{self.line_of(*keys)}: {problem}")


def user_path() -> Path | None:
    """Return where the user's own file belongs: ``hyperfs/config.toml`` in the XDG configuration home.

    None where no home is known, as in a container whose user has no name.
    """
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.config")
    return Path(base) / "hyperfs" / "config.toml" if os.path.isabs(base) else None


def read_config() -> tuple[ConfigFile, ...]:
    """Return the files that are there, the user's before the machine's: what stands further ahead counts.

    Raises `ConfigError`.
    """
    found = (read_file(path) for path in (user_path(), SYSTEM_PATH) if path is not None)
    return tuple(file for file in found if file is not None)


def read_file(path: Path) -> ConfigFile | None:
    """Return what the file at ``path`` says, None when there is none. Raises `ConfigError`."""
    data = _read(path)
    if data is None:
        return None
    import tomllib  # late: most have no file

    try:
        text = data.decode()
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8, as TOML is") from error
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigError(f"{path}:{line}: this is not TOML: {_AT_LINE.sub('', str(error))}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: what it says is nested too deep") from error
    tables = [values]
    for _ in range(_MAX_DEPTH):
        tables = [value for table in tables for value in table.values() if isinstance(value, dict)]
    if tables:
        raise ConfigError(f"{path}: what it says is nested too deep")
    return ConfigFile(path, text, values)


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        os.close(descriptor)
        raise ConfigError(f"{path}: is no file")
    with open(descriptor, "rb") as file:
        _refuse_others(path, info)
        for folder in {path.parent, Path(os.path.realpath(path)).parent}:
            _refuse_others(folder, os.stat(folder))
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: is longer than {MAX_BYTES} bytes")
    return data


def _refuse_others(path: Path, info: os.stat_result) -> None:
    """Refuse what somebody else may change: an option can name a store, and a program runs as whom it is read for."""
    if info.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path}: belongs to user {info.st_uid}, and options are taken only from files that nobody but you and "
            f"root may write to{'; `sudo -H` takes those of root' if os.geteuid() == 0 else ''}"
        )
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{path}: others may write to it, and options are taken only from files that nobody but you and root may "
            f"write to: `chmod go-w {path}`"
        )


def _statements(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield for each table and each value of a valid text the line that it begins in, and the keys that lead to it."""
    import tomllib

    table: tuple[str, ...] = ()
    line = 1
    for statement in _split(text):
        said = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            ((table, _),) = _leaves(said)
            yield line, table
        else:
            for path, _ in _leaves(said):
                yield line, (*table, *path)
        line += statement.count("\n")


def _split(text: str) -> Iterator[str]:
    """Yield the statements of a valid text, each with what ends its last line, in time that grows as the text does."""
    begin = depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and not depth:
            yield text[begin : token.end()]
            begin = token.end()
    yield text[begin:]


def _leaves(said: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what is in nested tables with the keys that lead there; an empty table is there itself."""
    if not isinstance(said, dict) or not said:
        yield (), said
        return
    for key, value in said.items():
        for path, leaf in _leaves(value):
            yield (key, *path), leaf
