"""The drives that are offered to peers, with everything that is mounted inside them, and where peers can reach us.

The rule: what is offered follows the state, step by step. Serving fetches nothing for its own sake except what tells
which cores belong to a drive; peers get what is here.
"""

import dataclasses
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Final

import trio

from hyperfs.core.core import Core
from hyperfs.daemon.addresses import format_address, parse_address
from hyperfs.daemon.network import Network
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.daemon.state import State, StateKeeper, offered, united, with_pinned, with_served, without, without_drive
from hyperfs.drive.drive import Drive
from hyperfs.errors import HyperfsError, UsageError, short
from hyperfs.swarm import Listening

_log = logging.getLogger(__name__)

MAX_INSIDE: Final = 256
"""How many drives are served because they are mounted inside those that are to be served."""


@dataclass(slots=True, eq=False)
class _Offer:
    """One served drive: whose cores these are, and the task that keeps up with it. ``begun`` is set once it is open."""

    user: User = field(default_factory=lambda: User(offers=True))
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    seen: set[bytes] = field(default_factory=set)
    is_cut: bool = False
    """Whether it was told that not all that is mounted in it is offered."""
    begun: trio.Event = field(default_factory=trio.Event)


class Serving:
    """Owns what is offered, and at which addresses. Its tasks run in ``nursery``."""

    def __init__(self, state: StateKeeper, registry: CoreRegistry, network: Network, nursery: trio.Nursery) -> None:
        self._state = state
        self._registry = registry
        self._network = network
        self._swarm = network.swarm
        self._nursery = nursery
        self._offers: dict[bytes, _Offer] = {}
        self._changing = trio.Lock()

    async def serve(
        self, key: bytes, *, listen: tuple[str, ...], peers: tuple[str, ...], pinned: bool = False
    ) -> tuple[str, ...]:
        """Offer a drive, ``pinned`` or not, now and after each start; return the addresses that are listened at.

        The addresses of ``listen`` are added to those of `listen_at`; where there are none, it is the store's own port.

        Cancelled while the state is being saved, it is offered; before that, nothing has changed.

        Raises:
            UsageError: what is to be listened at, or a peer, is no address.
            OSError: it cannot be listened there, or the state cannot be saved.
            StoreLocked, DamagedStore.
        """
        wanted = [parse_address(address) for address in listen]
        for peer in peers:
            parse_address(peer)
        async with self._changing, AsyncExitStack() as held:
            if not wanted and not self._state.state.listen:
                await held.enter_async_context(self._network.own_port())
            before = set(self._swarm.listening)
            try:
                opened = await self._open(wanted)
                await self._check(key)
                await self._state.change(lambda state: _serve(state, key.hex(), opened, peers, pinned=pinned))
            finally:
                self._unlisten_all_but(before)
            await self._offers[key].begun.wait()
        return self.listening()

    async def listen_at(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Accept peers there, too, now and after each start; return all addresses that are listened at.

        Cancelled while the state is being saved, it is so; before that, nothing has changed. Raises as `serve`.
        """
        wanted = [parse_address(address) for address in addresses]
        async with self._changing:
            before = set(self._swarm.listening)
            try:
                opened = await self._open(wanted)
                await self._state.change(lambda state: dataclasses.replace(state, listen=united(state.listen, opened)))
            finally:
                self._unlisten_all_but(before)
        return self.listening()

    async def unlisten_at(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Accept nobody there any more; return where that is done. Connections stay.

        Cancelled, as `StateKeeper.change`.

        Raises:
            UsageError: nobody said that peers are to be accepted there.
            OSError: the state cannot be saved.
        """
        async with self._changing:
            for address in addresses:
                if address not in self._state.state.listen:
                    raise UsageError(f"{address} was not chosen to be listened at; `hyperfs listen` shows what was")
            await self._state.change(lambda state: _without(state, addresses))
        return self.listening()

    async def _open(self, wanted: Iterable[tuple[str, int]]) -> tuple[str, ...]:
        opened = [await self._swarm.listen(*address) for address in wanted]
        return tuple(format_address(address.host, address.port) for address in opened)

    async def unserve(self, key: bytes) -> None:
        """Offer a drive no more; with the last one, stop listening. Cancelled, as `StateKeeper.change`.

        Raises:
            UsageError: it is not offered.
            OSError: the state cannot be saved.
        """
        async with self._changing:
            if not any(one.key == key.hex() for one in self._state.state.served):
                if key in self._offers:
                    raise UsageError(f"drive {key.hex()} is offered because it is pinned: `hyperfs unpin` ends both")
                raise UsageError(f"drive {key.hex()} is not served; `hyperfs status` shows what is")
            await self._state.change(lambda state: _unserve(state, key.hex()))

    async def unpin(self, key: bytes) -> None:
        """Keep a drive whole no more, nor offer it unless it is served. Cancelled and raises, as `unserve`."""
        async with self._changing:
            if not any(one.key == key.hex() for one in self._state.state.pinned):
                raise UsageError(f"drive {key.hex()} is not pinned; `hyperfs status` shows what is")
            await self._state.change(lambda state: _unpin(state, key.hex()))

    async def forget(self, key: bytes) -> None:
        """Do nothing more for a drive that is about to be removed: it is not served, nor pinned, nor called anything.

        Cancelled, as `StateKeeper.change`. Raises OSError: the state cannot be saved.
        """
        async with self._changing:
            await self._state.change(lambda state: _listening_while_offering(without_drive(state, key.hex())))

    def user_of(self, key: bytes) -> User | None:
        """Return who offers a drive, None for one that is not offered."""
        offer = self._offers.get(key)
        return None if offer is None else offer.user

    def offered(self) -> set[bytes]:
        """Return the keys of the drives that are offered, less what is mounted in them."""
        return set(self._offers)

    def listening(self) -> tuple[str, ...]:
        """Return where peers can reach us."""
        return tuple(format_address(address.host, address.port) for address in self._swarm.listening)

    def follow(
        self, *, begun: Iterable[bytes], ended: Iterable[bytes], listen: Iterable[str], unlisten: Iterable[str]
    ) -> None:
        """Begin and end to offer these drives, and to listen at these addresses, since the state says so now."""
        for key in ended:
            offer = self._offers.pop(key)
            offer.scope.cancel()
            self._registry.release(offer.user)
        for key in begun:
            offer = self._offers[key] = _Offer()
            self._nursery.start_soon(self._keep_up, offer, key)
        for address in unlisten:
            self._swarm.unlisten(*parse_address(address))
        listening = self.listening()
        for address in listen:
            if address not in listening:
                self._nursery.start_soon(self.listen, address)

    async def _check(self, key: bytes) -> None:
        """Raise what keeps the core of ``key`` from being opened."""
        user = User()
        try:
            await self._registry.open(key, user)
        finally:
            self._registry.release(user)

    def _unlisten_all_but(self, before: set[Listening]) -> None:
        """Stop to listen where a request began to that came to nothing."""
        kept = self._state.state.listen
        for address in set(self._swarm.listening) - before - {self._network.own}:
            if format_address(address.host, address.port) not in kept:
                self._swarm.unlisten(address.host, address.port)

    async def listen(self, address: str) -> None:
        """Accept peers at ``address``, as the state says; where that cannot be is logged."""
        try:
            await self._swarm.listen(*parse_address(address))
        except (OSError, HyperfsError) as error:
            _log.error("cannot listen at %s: %s", address, error)

    async def _keep_up(self, offer: _Offer, key: bytes) -> None:
        with offer.scope:
            try:
                async with trio.open_nursery() as nursery:
                    offer.seen.add(key)
                    await self._follow(offer, key, nursery)
            finally:
                offer.begun.set()

    def _has_room(self, offer: _Offer, key: bytes) -> bool:
        """Tell whether one more of what is mounted inside served drives may be open: their owners choose how many."""
        inside = sum(len(other.seen) - 1 for other in self._offers.values())
        if inside < min(MAX_INSIDE, self._registry.max_cores // 4):
            return True
        if not offer.is_cut:
            offer.is_cut = True
            _log.warning(
                "drive %s has more drives mounted in it than can be served with it: serve those that matter by their "
                "own keys",
                short(key),
            )
        return False

    async def _follow(self, offer: _Offer, key: bytes, nursery: trio.Nursery) -> None:
        """Offer a drive's content, and the drives mounted in it, now and as new ones are mounted."""
        cores = _Cores(self._registry, offer.user)
        length = 0
        while True:
            try:
                core = await cores.open_core(key)
            except (HyperfsError, OSError) as error:
                _log.error("cannot serve %s: %s", short(key), error)
                return
            offer.begun.set()
            try:
                drive = await Drive.open(cores, key)
                async with aclosing(drive.watch()) as snapshots:
                    async for snapshot in snapshots:
                        await drive.content()
                        length = core.length
                        for target in (await snapshot.mounts()).targets.values():
                            if target.key in offer.seen or not self._has_room(offer, key):
                                continue
                            offer.seen.add(target.key)
                            if target.is_core:
                                await cores.open_core(target.key)
                            else:
                                nursery.start_soon(self._follow, offer, target.key, nursery)
            except (HyperfsError, OSError) as error:
                _log.info("serving %s as far as it is here: %s", short(key), error)
            await core.wait_longer(max(length, core.length))


@dataclass(frozen=True, slots=True)
class _Cores:
    """Opens cores for the sake of one offer: a `CoreProvider`."""

    registry: CoreRegistry
    user: User

    async def open_core(self, key: bytes) -> Core:
        """Return the core of ``key``."""
        return await self.registry.open(key, self.user)


def _serve(
    state: State, key: str, addresses: tuple[str, ...], peers: tuple[str, ...], *, pinned: bool = False
) -> State:
    after = (with_pinned if pinned else with_served)(state, key, peers)
    return dataclasses.replace(after, listen=united(state.listen, addresses))


def _unserve(state: State, key: str) -> State:
    return _listening_while_offering(dataclasses.replace(state, served=without(state.served, key)))


def _unpin(state: State, key: str) -> State:
    return _listening_while_offering(dataclasses.replace(state, pinned=without(state.pinned, key)))


def _listening_while_offering(state: State) -> State:
    return state if offered(state) else dataclasses.replace(state, listen=())


def _without(state: State, addresses: tuple[str, ...]) -> State:
    return dataclasses.replace(state, listen=tuple(one for one in state.listen if one not in addresses))
