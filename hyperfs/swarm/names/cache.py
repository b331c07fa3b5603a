"""What names were found to stand for, on disk.

The rules: a file that cannot be read, or says something else, is as good as an empty one. It is replaced as a whole,
and holds a bounded number of names; those that were found out first go first.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperfs.crypto import KEY_BYTES
from hyperfs.swarm.names.answers import NameAnswer

logger = logging.getLogger(__name__)

MAX_NAMES: Final = 1024
MAX_CACHE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """The 32-byte key of a name; ``until`` is when that is to be asked again, in seconds since 1970."""

    key: bytes
    until: float


class NameCache:
    """The cache in the file ``path``, which need not be there. ``now`` tells seconds since 1970."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now

    def find(self, name: str) -> Kept | None:
        """Return what is kept of a name, fresh or not."""
        return self._read().get(name)

    def is_fresh(self, kept: Kept) -> bool:
        """Tell whether something need not be asked again yet."""
        return self._now() < kept.until

    def keep(self, name: str, answer: NameAnswer) -> None:
        """Keep an answer, or what it replaces no more when it says so. What cannot be written is logged."""
        names = self._read()
        names.pop(name, None)
        if answer.ttl_seconds:
            names[name] = Kept(answer.key, self._now() + answer.ttl_seconds)
        while len(names) > MAX_NAMES:
            del names[next(iter(names))]
        try:
            self._write(names)
        except OSError as error:
            logger.warning("cannot keep the key of %s: %s", name, error)

    def _read(self) -> dict[str, Kept]:
        try:
            with self._path.open("rb") as file:
                entries = json.loads(file.read(MAX_CACHE_BYTES))
            return {str(name): _kept(entry) for name, entry in entries.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.info("%s is not used: %s", self._path, error)
            return {}

    def _write(self, names: dict[str, Kept]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = {name: {"key": kept.key.hex(), "until": kept.until} for name, kept in names.items()}
        with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
            try:
                json.dump(entries, file)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, self._path)
            except BaseException:  # whatever ended it: the unfinished file is nobody's
                os.unlink(file.name)
                raise


def _kept(entry: dict[str, object]) -> Kept:
    key = bytes.fromhex(str(entry["key"]))
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes")
    until = entry["until"]
    if not isinstance(until, int | float):
        raise ValueError(f"a time that is {until!r}")
    return Kept(key, float(until))
