"""Which drive was begun of which folder, by a first import that has not ended.

The rule: the note is there before the first byte is in the drive, and goes once all of the folder has been imported.
"""

import hashlib
import json
import os
from pathlib import Path

from hyperfs.core.store import core_folder
from hyperfs.daemon.places import Places
from hyperfs.keys import parse_key
from hyperfs.storage.disk import replace_file


class Begun:
    """The note about one folder, an absolute path without links."""

    def __init__(self, places: Places, folder: Path) -> None:
        digest = hashlib.blake2b(os.fsencode(folder), digest_size=16).hexdigest()
        self._places = places
        self._path = places.own / "imports" / f"{digest}.json"

    def key(self) -> bytes | None:
        """Return the key of the drive that was begun and is still in the store, None when there is none."""
        try:
            key = parse_key(json.loads(self._path.read_text(encoding="utf-8"))["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return key if (core_folder(self._places.store, key) / "key").exists() else None

    def note(self, key: bytes) -> None:
        """Note that drive ``key`` is begun. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path, (json.dumps({"key": key.hex()}) + "\n").encode())

    def has_ended(self, key: bytes) -> None:
        """Forget it, if it was drive ``key``. Raises OSError."""
        if self.key() == key:
            self._path.unlink(missing_ok=True)
