"""The daemon as a command or a mount has it: a provider of cores, their source, and the store's remote control.

The rule: what is on this disk is read without a word to the daemon, by `CoreView`; it is asked only for what is
missing and for what changes something.
"""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from hyperfs.core.reader import CoreReader, Hint, Priority
from hyperfs.core.view import CoreView
from hyperfs.daemon import answers as told
from hyperfs.daemon import requests as ask
from hyperfs.daemon.call import Answer, Call
from hyperfs.daemon.connection import HELLO_SECONDS, Connection
from hyperfs.daemon.link import Link, Pending
from hyperfs.daemon.network_settings import OFFLINE, NetworkChange, NetworkSettings
from hyperfs.daemon.places import Places, places_of
from hyperfs.daemon.process import connect_or_start, connect_running
from hyperfs.daemon.state import MountChoices
from hyperfs.daemon.wire import Notice
from hyperfs.errors import BlockNotAvailable, DaemonError, NoDaemon, short
from hyperfs.storage import DiskDirectory

_log = logging.getLogger(__name__)

LEAST_ANSWER_SECONDS: Final = 2.0
"""A daemon gets this long for its first words, however little patience a command has with peers."""
_RANGES_AT_ONCE: Final = 4096
_PREFETCHES_AT_ONCE: Final = 64
"""Wishes that the daemon has not heard of yet; past that nothing more is wished for."""

BlocksInUse = Callable[[bytes], Iterable[range]]
"""Tells which blocks of a core the files that are open in this process lie in."""


class Start(Enum):
    """What to do when no daemon runs."""

    IF_NEEDED = auto()
    """Start it."""
    NEVER = auto()
    """Raise `DaemonError`."""


class DaemonClient:
    """One client of a store's daemon. Implements `CoreProvider` and `Source`. Made by `connect`.

    Cancelling a request withdraws it: the daemon does it as a whole or not at all, or what the request's handler in
    `hyperfs.daemon.methods` or `keeping` says that is left.

    ``timeout_seconds`` bounds each wait for a block (None: for ever, or the caller's cancel scope).
    """

    def __init__(self, places: Places, *, timeout_seconds: float | None) -> None:
        self.places = places
        self._timeout_seconds = timeout_seconds
        self._link = Link(self._noticed)
        self._views: dict[bytes, CoreView] = {}
        self._opening: dict[bytes, trio.Lock] = {}
        self._resting: set[bytes] = set()
        """The views whose cores the daemon need not have open for us."""
        self._prefetches: list[Pending] = []
        self.uses: BlocksInUse = _none_in_use
        self.linked: Callable[[ask.Link], None] = self._writes_nothing

    @property
    def connected(self) -> bool:
        """Whether the daemon is there just now."""
        return self._link.connected

    async def request(self, call: Call[Answer]) -> Answer:
        """Ask the daemon. See `hyperfs.daemon.requests` for what there is to ask, and `Link.request` for what raises.

        Raises also `EncodingError`, when the answer is not what the call says.
        """
        answer = await self._link.request(call.method, call.encoded(), repeatable=call.repeatable)
        return call.decode_answer(answer)

    def send(self, call: Call[Any]) -> Pending:
        """Ask the daemon, and wait for the answer later. See `Link.send`."""
        return self._link.send(call.method, call.encoded())

    # The provider of cores

    async def open_core(self, key: bytes) -> CoreView:
        """Return the core of ``key``: one view a key, valid as long as this client. It is awake afterwards.

        Raises:
            DaemonError, DamagedStore, StoreLocked, OSError.
        """
        async with self._opening.setdefault(key, trio.Lock()):
            view = self._views.get(key)
            if view is None:
                opened = await self.request(ask.OpenCore(key))
                view = CoreView(
                    DiskDirectory(Path(opened.directory)),
                    Path(opened.map),
                    key=key,
                    length=opened.head.length,
                    byte_length=opened.head.byte_length,
                    writable=opened.writable,
                    source=self,
                )
                self._views[key] = view
                # Its head may have moved between the answer and this line, and the notice found no view.
                self._apply_head(await self.request(ask.GetHead(key)))
            elif key in self._resting:
                head = (await self.request(ask.OpenCore(key))).head
                view.restarted(head.length, head.byte_length)
                self._resting.discard(key)
        return view

    async def rest(self, key: bytes) -> None:
        """Hold nothing open of the core of ``key``, here or at the daemon, whoever has its view.

        What is asked of the view later opens its files again, and is answered; but newer heads are heard of only once
        it was woken by `open_core`. Cancelled, it may count as awake, and be closed at the daemon.
        """
        async with self._opening.setdefault(key, trio.Lock()):
            view = self._views.get(key)
            if view is not None:
                view.rest()
                if key not in self._resting:
                    self._resting.add(key)
                    with suppress(DaemonError):  # the next one is not told of it
                        await self.request(ask.LeaveCore(key))

    @property
    def awake(self) -> list[bytes]:
        """The keys of the cores that are open and do not rest, those that were opened first in front."""
        return [key for key in self._views if key not in self._resting]

    @property
    def resting(self) -> list[bytes]:
        """The keys of those that rest."""
        return list(self._resting)

    # The source of blocks

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        """Return when all blocks of ``ranges`` are readable. Raises `BlockNotAvailable`, also when time is up."""
        first = ranges[0].start if ranges else 0
        call = ask.Fetch(core.key, tuple(ranges), priority, hint)
        await self._within_limit(call, f"block {first} of core {short(core.key)}")

    def prefetch(self, core: CoreReader, ranges: Sequence[range], hint: Hint | None) -> None:
        """Have the daemon begin to bring ``ranges``, unless it is away, or still busy with many such wishes."""
        self._prefetches = [pending for pending in self._prefetches if not pending.done.is_set()]
        if self.connected and len(self._prefetches) < _PREFETCHES_AT_ONCE:
            for start in range(0, len(ranges), _RANGES_AT_ONCE):
                call = ask.Prefetch(core.key, tuple(ranges[start : start + _RANGES_AT_ONCE]), hint)
                self._prefetches.append(self.send(call))
                hint = None

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        """Bring the block that holds ``byte_offset``, with its proof. Raises `BlockNotAvailable`."""
        call = ask.Seek(core.key, byte_offset, blocks, priority)
        await self._within_limit(call, f"byte {byte_offset} of core {short(core.key)}")

    async def update(self, core: CoreReader) -> None:
        """Ask the peers for a newer head; returns once they have answered, when nobody is there, or when time is up."""
        with trio.move_on_after(math.inf if self._timeout_seconds is None else self._timeout_seconds):
            self._apply_head(await self.request(ask.Update(core.key)))

    async def audit(self, key: bytes) -> told.Audited:
        """Read a core's blocks again; return how many were here, and those that were damaged and are forgotten now.

        Raises `DamagedStore` when the core's tree does not match itself.
        """
        return await self.request(ask.Audit(key))

    # Drives and peers

    async def create_drive(self) -> bytes:
        """Make a new, empty drive in the store and return its key."""
        return await self.request(ask.CreateDrive())

    async def use_peers(self, addresses: Iterable[str]) -> None:
        """Connect to these peers (``HOST:PORT``) for as long as this client is there."""
        await self.request(ask.UsePeers(tuple(addresses)))

    async def peers(self, key: bytes) -> told.PeerCount:
        """Return how many peers are ``connected``, how many ``dialled``, and which ``unreached``, with the reason.

        ``looked`` says where those of core ``key`` were looked for.
        """
        return await self.request(ask.CountPeers(key))

    async def change_network(self, change: NetworkChange) -> NetworkSettings:
        """Have the daemon be in the network another way, until it ends; return all settings that are in force then."""
        return await self.request(ask.ChangeNetwork(change))

    async def remember_peers(self, addresses: Iterable[str]) -> None:
        """Connect to these peers from now on, also after the next start."""
        await self.request(ask.AddPeers(tuple(addresses)))

    async def forget_peers(self, addresses: Iterable[str]) -> None:
        """Take back `remember_peers`. Raises `UsageError` for one that was not remembered."""
        await self.request(ask.RemovePeers(tuple(addresses)))

    async def serve(self, key: bytes, *, listen: Iterable[str], peers: Iterable[str]) -> tuple[str, ...]:
        """Offer a drive to peers, now and after each start; return the addresses listened at.

        Raises:
            OSError: an address cannot be listened at.
        """
        return await self.request(ask.Serve(key, tuple(listen), tuple(peers)))

    async def unserve(self, key: bytes) -> None:
        """Offer a drive no more. Raises `UsageError` when it was not offered."""
        await self.request(ask.Unserve(key))

    # What a drive keeps, and its keys

    async def prepare_to_write(self, key: bytes) -> None:
        """Ask the peers whether they have more of a drive of ours, and fetch it, within a short time."""
        await self.request(ask.PrepareToWrite(key))

    async def clear_content(self, key: bytes, ranges: Sequence[range], *, expected_version: int | None) -> None:
        """Forget blocks of a drive's content; of a drive of ours only as it was at ``expected_version``.

        Raises:
            ConflictingLength: the drive has another version by now; some of it may be cleared.
            NotWritable: it is ours, and no version was given.
        """
        for start in range(0, len(ranges), _RANGES_AT_ONCE):
            part = tuple(ranges[start : start + _RANGES_AT_ONCE])
            await self.request(ask.ClearContent(key, part, expected_version))

    async def blocks_in_use(self, content_key: bytes) -> tuple[range, ...]:
        """Return which blocks of a content core the files lie in that programs have open in mounts of this store.

        Raises `DaemonError` when a mount does not tell.
        """
        return await self.request(ask.BlocksInUse(content_key))

    async def writer_states(self, key: bytes) -> tuple[told.WriterState, ...]:
        """Return what is known of the cores of drive ``key`` from elsewhere: which are behind, or forked."""
        return await self.request(ask.GetWriterStates(key))

    async def accept_fork(self, key: bytes) -> None:
        """Go on with the history of drive ``key`` that is here."""
        await self.request(ask.AcceptFork(key))

    async def secret_keys(self, key: bytes) -> told.SecretKeys:
        """Return the secret keys of drive ``key``, of its ``drive`` and ``content`` core, and their lengths."""
        return await self.request(ask.GetSecrets(key))

    async def adopt_drive(self, drive_secret: bytes, content_secret: bytes, lengths: tuple[int, int]) -> None:
        """Make a drive writable in this store, by its secret keys."""
        await self.request(ask.AdoptDrive(told.SecretKeys(drive_secret, content_secret, lengths)))

    async def cache(self) -> told.CacheUse:
        """Return the ``limit`` in bytes for copies of others' content (None: none), and the ``drives`` kept."""
        return await self.request(ask.GetCache())

    async def limit_cache(self, limit: int | None) -> None:
        """Keep at most ``limit`` bytes of copies of others' content, now and after each start."""
        await self.request(ask.LimitCache(limit))

    # Mounts

    async def mount(
        self,
        key: bytes,
        *,
        version: int | None,
        label: str,
        mountpoint: Path,
        options: MountChoices,
        peers: Iterable[str],
    ) -> str:
        """Mount a drive, now and after each start; return the mount's id once the folder is ready.

        Raises:
            UsageError: something is mounted there, or it overlaps the store.
            HyperfsError, OSError: what the mount failed of.
        """
        return await self.request(
            ask.MountDrive(key, version, label, str(mountpoint), options=options, peers=tuple(peers))
        )

    async def mounts(self) -> tuple[told.MountTold, ...]:
        """Return what is mounted, or is to be."""
        return await self.request(ask.ListMounts())

    async def unmount(self, id: str) -> None:
        """End a mount and forget it; returns once what was written is committed and it is gone.

        Raises:
            UsageError: there is none.
            StillStaged: it is gone, and something that was written is not in the drive yet.
        """
        await self.request(ask.Unmount(id))

    async def wait_unmounted(self, id: str) -> None:
        """Return once the mount is gone for good, whoever ended it. Raises `StillStaged` as `unmount`."""
        await self.request(ask.WaitUnmounted(id))

    # The daemon itself

    async def status(self) -> told.Status:
        """Return everything that `hyperfs status` shows."""
        return await self.request(ask.GetStatus())

    async def stop(self) -> tuple[str, ...]:
        """Have the daemon end, once its mounts have; return what stays staged of them, a line each."""
        return await self.request(ask.Stop())

    def close(self) -> None:
        """Let go of the files of all views."""
        for view in self._views.values():
            view.close()
        self._views.clear()

    async def _within_limit(self, call: Call[None], what: str) -> None:
        if self._timeout_seconds is None:
            await self.request(call)
            return
        with trio.move_on_after(self._timeout_seconds) as scope:
            await self.request(call)
        if scope.cancelled_caught:
            raise BlockNotAvailable(f"{what}: no peer sent it within {self._timeout_seconds:g} s")

    async def _restore(self) -> None:
        """Take up with a new daemon: tell it which cores we read, and take over its heads."""
        for key, view in list(self._views.items()):
            if key in self._resting:
                view.rest()
                continue
            head = (await self.request(ask.OpenCore(key))).head
            view.restarted(head.length, head.byte_length)

    def _noticed(self, notice: Notice) -> None:
        match ask.decode_news(notice.name, notice.arguments):
            case told.Head() as head:
                self._apply_head(head)
            case ask.WhichInUse(question, key):
                self.send(ask.MountUses(question, tuple(self.uses(key))))
            case ask.Link() as link:
                self.linked(link)

    def _writes_nothing(self, link: ask.Link) -> None:
        self.send(ask.MountLinked(link.question, None, None))

    def _apply_head(self, head: told.Head) -> None:
        view = self._views.get(head.key)
        if view is not None and head.length > view.length:
            view.extended(head.length, head.byte_length)


def _none_in_use(key: bytes) -> Iterable[range]:
    return ()


@asynccontextmanager
async def connect(
    store: str | Path,
    *,
    start: Start = Start.IF_NEEDED,
    reconnect: bool = False,
    restored: Callable[[DaemonClient], Awaitable[None]] | None = None,
    timeout_seconds: float | None = None,
    peers: Sequence[str] = (),
    network: NetworkSettings = OFFLINE,
    idle_seconds: float | None = None,
    change: NetworkChange | None = None,
) -> AsyncIterator[DaemonClient]:
    """Connect to the daemon of ``store``.

    ``network`` and ``idle_seconds`` are for a daemon that has to be started, ``change`` for one that runs.

    With ``reconnect`` the client lives on when the daemon dies, and takes up with the next one (it never starts one
    itself then), calling ``restored`` each time; otherwise everything asked after that raises `DaemonError`.

    Raises:
        NoDaemon, OtherVersion, DaemonError: none runs and none is to be started; it is another; it does not answer.
        HyperfsError, OSError: what keeps a daemon from starting.
    """
    places = places_of(store)
    answer_seconds = min(HELLO_SECONDS, max(LEAST_ANSWER_SECONDS, timeout_seconds or math.inf))
    if start is Start.IF_NEEDED:
        connection: Connection | None = await connect_or_start(
            places, answer_seconds=answer_seconds, network=network, idle_seconds=idle_seconds
        )
    else:
        connection = await connect_running(places, answer_seconds=answer_seconds)
    if connection is None:
        raise NoDaemon(f"no daemon runs for the store {places.store}")
    client = DaemonClient(places, timeout_seconds=timeout_seconds)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            if reconnect:
                again = partial(connect_running, places)
                await client._link.run_for_ever(connection, again, restore, task_status=task_status)
            else:
                await client._link.run_once(connection, task_status=task_status)
                client._link.end(f"the daemon of {places.store} went away; see {places.log}")

        async def restore() -> None:
            if peers:
                await client.use_peers(peers)
            await client._restore()
            if restored is not None:
                await restored(client)

        await nursery.start(run)
        try:
            if change is not None and change != NetworkChange():
                await client.change_network(change)
            if peers:
                await client.use_peers(peers)
            yield client
        except Exception as error:  # noqa: BLE001  raised again below, outside the nursery that would wrap it
            failure = error
        finally:
            client.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
