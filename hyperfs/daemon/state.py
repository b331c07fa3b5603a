"""What a store's daemon is to do: the drives it serves, its mounts, its peers, the addresses it listens at.

The rule: what stands in the file is whole, the old state or the new one, and it is on disk before the command that
changed it is answered. It is read once, when the daemon starts.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hyperfs.errors import DamagedStore

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Served:
    """A drive that is offered to peers, and the peers (``HOST:PORT``) that were named with it."""

    key: str
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A drive that is mounted at ``mountpoint`` (absolute). ``version`` None means that it follows the newest."""

    id: str
    key: str
    version: int | None
    mountpoint: str
    label: str
    """How the user named the drive, for listings: the key, with a version or tag."""
    options: dict[str, Any]
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Everything that comes back when the daemon is started again."""

    served: tuple[Served, ...] = ()
    mounts: tuple[MountRecord, ...] = ()
    peers: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    cache_limit: int | None = None
    """How many bytes of others' content are kept; None: any amount."""


class StateFile:
    """Owns ``state.json`` of a store."""

    def __init__(self, path: Path) -> None:
        """Read the state that stands at ``path``; none there is the empty state.

        Raises:
            DamagedStore: what stands there is no state.
            OSError: it cannot be read.
        """
        self._path = path
        self.state = _load(path)

    def change(self, **changes: Any) -> None:
        """Replace these fields of the state, and write it; on return it survives a crash.

        Raises:
            OSError: it cannot be written; the state is as before.
        """
        state = dataclasses.replace(self.state, **changes)
        text = json.dumps({"format": _FORMAT, **dataclasses.asdict(state)}, indent=2)
        beside = self._path.with_suffix(".new")
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.state = state


def _load(path: Path) -> State:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return State()
    try:
        fields = json.loads(text)
        if fields["format"] != _FORMAT:
            raise DamagedStore(f"{path}: written by another version of hyperfs (format {fields['format']})")
        return State(
            served=tuple(Served(str(s["key"]), tuple(s["peers"])) for s in fields["served"]),
            mounts=tuple(MountRecord(**{**mount, "peers": tuple(mount["peers"])}) for mount in fields["mounts"]),
            peers=tuple(fields["peers"]),
            listen=tuple(fields["listen"]),
            cache_limit=None if fields.get("cache_limit") is None else int(fields["cache_limit"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStore(
            f"{path}: not readable ({error}); remove it to start with nothing served or mounted"
        ) from error
