"""Whom the daemon dials, and for whose sake.

The rule: an address is dialled as long as somebody who named it is there (a drive that is served, a mount, a command,
or the state), and a little longer after a command, so that the next one finds the connection up.
"""

from collections.abc import Hashable, Iterable, Set
from typing import Final

import trio

from hyperfs.daemon.addresses import format_address, parse_address
from hyperfs.errors import UsageError
from hyperfs.replication import Replicator
from hyperfs.swarm import Swarm

LINGER_SECONDS: Final = 30.0


class PeerBook:
    """Owns the list of peers that ``swarm`` dials."""

    def __init__(self, swarm: Swarm, replicator: Replicator, nursery: trio.Nursery) -> None:
        self._swarm = swarm
        self._replicator = replicator
        self._nursery = nursery
        self._holders: dict[tuple[str, int], set[Hashable]] = {}

    def hold(self, holder: Hashable, addresses: Iterable[str]) -> None:
        """Dial ``addresses`` for the sake of ``holder``. Raises `UsageError` for one that is none, dialling nothing."""
        parsed = [parse_address(address) for address in addresses]
        for address in parsed:
            self._holders.setdefault(address, set()).add(holder)
            self._swarm.add_peer(*address)
        if parsed:
            self._replicator.expect_peers()

    def release(self, holder: Hashable, *, but: Iterable[str] = ()) -> None:
        """Dial no more, after a while, what only ``holder`` wanted, except the addresses ``but``."""
        kept = {parse_address(address) for address in but}
        released = [address for address, holders in self._holders.items() if holder in holders and address not in kept]
        for address in released:
            self._holders[address].discard(holder)
        if any(not self._holders[address] for address in released):
            self._nursery.start_soon(self._drop_later, released)

    def drop(self, holder: Hashable) -> None:
        """Dial no more, from now on, what only ``holder`` wanted."""
        held = [address for address, holders in self._holders.items() if holder in holders]
        for address in held:
            self._holders[address].discard(holder)
        self._drop(held)

    def addresses(self) -> list[str]:
        """Return what is dialled."""
        return [format_address(*address) for address in self._holders]

    def holders(self, address: str) -> Set[Hashable]:
        """Return for whose sake ``address`` is dialled: nobody's, if it is not."""
        try:
            return self._holders.get(parse_address(address), set())
        except UsageError:  # what came to us by itself may have a name of another kind
            return set()

    async def _drop_later(self, released: list[tuple[str, int]]) -> None:
        await trio.sleep(LINGER_SECONDS)
        self._drop(released)

    def _drop(self, released: list[tuple[str, int]]) -> None:
        for address in released:
            if not self._holders.get(address, True):
                del self._holders[address]
                self._swarm.remove_peer(*address)
