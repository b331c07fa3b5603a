"""Which drive of a store is meant by a name that it has there, or by the first digits of its key; and what there is.

The rule: nothing is made or started for it; a store that is not there has no drives.
"""

from pathlib import Path
from typing import Final

from hyperfs.core.store import core_folder, keys_in
from hyperfs.daemon.places import Places
from hyperfs.daemon.state import keys_of, read_state
from hyperfs.errors import UsageError
from hyperfs.trie.header import TRIE_TYPE

_SHOWN: Final = 5
_HEADER_BYTES: Final = 32


def find_drive(places: Places, word: str) -> bytes | None:
    """Return the key of the drive that is called ``word`` in a store, or whose key alone begins so; None when none is.

    Raises:
        UsageError: several keys begin so.
        DamagedStore, OSError.
    """
    state = read_state(places.state)
    if word in state.names:
        return bytes.fromhex(state.names[word])
    digits = word.lower()
    known = {key.hex() for key in keys_in(places.store)}
    known.update(keys_of(state))
    found = sorted(key for key in known if key.startswith(digits))
    if len(found) <= 1:
        return bytes.fromhex(found[0]) if found else None
    shown = ", ".join(key[: len(digits) + 8] + "…" for key in found[:_SHOWN])
    raise UsageError(f"{len(found)} keys begin with {word}: write more of it ({shown})")


def words_for_drives(places: Places, beginning: str) -> list[str]:
    """Return what may be meant by a word that is not whole yet: names, and keys of drives that have none.

    Raises `DamagedStore`, `OSError`.
    """
    state = read_state(places.state)
    keys = {*keys_of(state), *(key.hex() for key in keys_in(places.store) if _looks_like_a_drive(places.store, key))}
    if not beginning:
        keys.difference_update(state.names.values())
    names = [name for name in state.names if name.startswith(beginning)]
    return sorted(names) + sorted(key for key in keys if key.startswith(beginning.lower()))


def _looks_like_a_drive(store: Path, key: bytes) -> bool:
    """Tell by the first bytes of what is on the disk: good enough for what is only offered."""
    try:
        with (core_folder(store, key) / "data").open("rb") as file:
            return TRIE_TYPE.encode() in file.read(_HEADER_BYTES)
    except OSError:
        return False
