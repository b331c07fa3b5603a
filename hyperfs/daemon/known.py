"""Which drive of a store is meant by a name that it has there, or by the first digits of its key.

The rule: nothing is made or started for it; a store that is not there has no drives.
"""

from typing import Final

from hyperfs.core.store import keys_in
from hyperfs.daemon.places import Places
from hyperfs.daemon.state import keys_of, read_state
from hyperfs.errors import UsageError

_SHOWN: Final = 5


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
