"""Whom a drive was had from: peers that somebody named once are dialled again whenever the drive is in use.

The rule: who is remembered has brought something that was verified, at an address that a person gave. Peers that are
found by themselves are found again.
"""

from dataclasses import dataclass
from functools import partial

from hyperfs.core.core import Core
from hyperfs.daemon.peers import PeerBook
from hyperfs.daemon.registry import CoreRegistry
from hyperfs.daemon.state import StateKeeper, with_acquaintance
from hyperfs.replication.peer import Peer


@dataclass(frozen=True, slots=True)
class _Acquainted:
    """For whose sake they are dialled: a core that is in use."""

    key: bytes


class Acquaintances:
    """Owns who is dialled for having been good for a drive. Is a `CoreListener` of every core that is opened."""

    def __init__(self, state: StateKeeper, peers: PeerBook, registry: CoreRegistry) -> None:
        self._state = state
        self._peers = peers
        self._registry = registry
        self._seen: set[tuple[bytes, str]] = set()
        registry.watch(self)

    def came(self, core: Core) -> None:
        """See `Watcher`: dial those that the drive is known from."""
        core.add_listener(self)
        self._peers.hold(_Acquainted(core.key), self._state.state.acquaintances.get(core.key.hex(), ()))

    def changed(self, core: Core) -> None:
        """Nothing: whose a drive is makes no difference."""

    def went(self, core: Core) -> None:
        """See `Watcher`: a core that nobody uses has stayed open for a while already."""
        core.remove_listener(self)
        self._peers.drop(_Acquainted(core.key))

    def is_one(self, address: str) -> bool:
        """Tell whether ``address`` is dialled for no other reason than that it was good for a drive once."""
        holders = self._peers.holders(address)
        return bool(holders) and all(isinstance(holder, _Acquainted) for holder in holders)

    # What cores tell

    def extended(self, core: Core, old_length: int, new_length: int) -> None:
        """Nothing: what is not stored was good for nothing."""

    def stored(self, core: Core, start: int, end: int, origin: object) -> None:
        """Remember who brought it, and is dialled since somebody named him."""
        if not isinstance(origin, Peer) or not self._peers.holders(origin.link.name):
            return
        seen = core.key, origin.link.name
        if seen in self._seen:
            return
        self._seen.add(seen)
        drive = self._registry.drive_of(core) or core
        if origin.link.name not in self._state.state.acquaintances.get(drive.key.hex(), ()):
            self._state.change_soon(partial(with_acquaintance, key=drive.key.hex(), peer=origin.link.name))

    def cleared(self, core: Core, start: int, end: int) -> None:
        """Nothing: it may be had from there again."""

    def durable(self, core: Core, length: int) -> None:
        """Nothing: that concerns what is ours."""
