"""The daemon as a command or a mount has it: a provider of cores, their source, and the store's remote control.

The rule: what is on this disk is read without a word to the daemon, by `CoreView`; it is asked only for what is
missing and for what changes something.
"""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from hyperfs.core.reader import CoreReader, Hint, Priority
from hyperfs.core.view import CoreView
from hyperfs.daemon.connection import HELLO_SECONDS
from hyperfs.daemon.link import Link, Pending
from hyperfs.daemon.places import Places, places_of
from hyperfs.daemon.process import connect_or_start, connect_running
from hyperfs.daemon.wire import Notice
from hyperfs.errors import BlockNotAvailable, NoDaemon, short
from hyperfs.storage import DiskDirectory

_log = logging.getLogger(__name__)

LEAST_ANSWER_SECONDS: Final = 2.0
"""A daemon gets this long for its first words, however little patience a command has with peers."""
_RANGES_AT_ONCE: Final = 4096

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

    ``timeout_seconds`` bounds each wait for a block (None: for ever, or the caller's cancel scope).
    """

    def __init__(self, places: Places, *, timeout_seconds: float | None) -> None:
        self.places = places
        self._timeout_seconds = timeout_seconds
        self._link = Link(self._noticed)
        self._views: dict[bytes, CoreView] = {}
        self._opening: dict[bytes, trio.Lock] = {}
        self.uses: BlocksInUse = _none_in_use

    @property
    def connected(self) -> bool:
        """Whether the daemon is there just now."""
        return self._link.connected

    async def request(self, method: str, *, repeatable: bool = False, **arguments: Any) -> Any:
        """Ask the daemon. See `hyperfs.daemon.methods` for what there is to ask, and `Link.request` for what raises."""
        return await self._link.request(method, arguments, repeatable=repeatable)

    def send(self, method: str, **arguments: Any) -> Pending:
        """Ask the daemon, and wait for the answer later. See `Link.send`."""
        return self._link.send(method, arguments)

    # The provider of cores

    async def open_core(self, key: bytes) -> CoreView:
        """Return the core of ``key``: one view a key, valid as long as this client.

        Raises:
            DaemonError, DamagedStore, StoreLocked, OSError.
        """
        async with self._opening.setdefault(key, trio.Lock()):
            view = self._views.get(key)
            if view is None:
                answer = await self.request("core.open", key=key, repeatable=True)
                view = CoreView(
                    DiskDirectory(Path(answer["directory"])),
                    Path(answer["map"]),
                    key=key,
                    length=answer["length"],
                    byte_length=answer["byte_length"],
                    writable=answer["writable"],
                    source=self,
                )
                self._views[key] = view
                # Its head may have moved between the answer and this line, and the notice found no view.
                self._apply_head(await self.request("core.head", key=key, repeatable=True))
        return view

    # The source of blocks

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        """Return when all blocks of ``ranges`` are readable. Raises `BlockNotAvailable`, also when time is up."""
        arguments: dict[str, Any] = {
            "key": core.key,
            "ranges": [(blocks.start, blocks.stop) for blocks in ranges],
            "priority": int(priority),
        }
        if hint is not None:
            arguments["hint"] = (hint.extension, hint.payload)
        first = ranges[0].start if ranges else 0
        await self._within_limit("core.fetch", arguments, f"block {first} of core {short(core.key)}")

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        """Bring the block that holds ``byte_offset``, with its proof. Raises `BlockNotAvailable`."""
        arguments = {
            "key": core.key,
            "byte_offset": byte_offset,
            "blocks": (blocks.start, blocks.stop),
            "priority": int(priority),
        }
        await self._within_limit("core.seek", arguments, f"byte {byte_offset} of core {short(core.key)}")

    async def update(self, core: CoreReader) -> None:
        """Ask the peers for a newer head; returns once they have answered, when nobody is there, or when time is up."""
        with trio.move_on_after(math.inf if self._timeout_seconds is None else self._timeout_seconds):
            self._apply_head(await self.request("core.update", key=core.key, repeatable=True))

    async def audit(self, key: bytes) -> tuple[int, list[int]]:
        """Read a core's blocks again; return how many were here, and those that were damaged and are forgotten now.

        Raises `DamagedStore` when the core's tree does not match itself.
        """
        answer = await self.request("core.audit", key=key)
        return answer["here"], list(answer["bad"])

    # Drives and peers

    async def create_drive(self) -> bytes:
        """Make a new, empty drive in the store and return its key."""
        return bytes(await self.request("drive.create"))

    async def use_peers(self, addresses: Iterable[str]) -> None:
        """Connect to these peers (``HOST:PORT``) for as long as this client is there."""
        await self.request("peers.use", addresses=list(addresses), repeatable=True)

    async def peers(self) -> dict[str, Any]:
        """Return how many peers are ``connected``, how many ``dialled``, and which ``unreached``, with the reason."""
        return dict(await self.request("peers.count", repeatable=True))

    async def remember_peers(self, addresses: Iterable[str]) -> None:
        """Connect to these peers from now on, also after the next start."""
        await self.request("peers.add", addresses=list(addresses))

    async def forget_peers(self, addresses: Iterable[str]) -> None:
        """Take back `remember_peers`. Raises `UsageError` for one that was not remembered."""
        await self.request("peers.remove", addresses=list(addresses))

    async def serve(self, key: bytes, *, listen: Iterable[str], peers: Iterable[str]) -> list[str]:
        """Offer a drive to peers, now and after each start; return the addresses listened at.

        Raises:
            OSError: an address cannot be listened at.
        """
        return list(await self.request("serve", key=key, listen=list(listen), peers=list(peers)))

    async def unserve(self, key: bytes) -> None:
        """Offer a drive no more. Raises `UsageError` when it was not offered."""
        await self.request("unserve", key=key)

    # What a drive keeps, and its keys

    async def prepare_to_write(self, key: bytes) -> None:
        """Ask the peers whether they have more of a drive of ours, and fetch it, within a short time."""
        await self.request("drive.lead", key=key)

    async def clear_content(self, key: bytes, ranges: Sequence[range], *, expected_version: int | None) -> None:
        """Forget blocks of a drive's content; of a drive of ours only as it was at ``expected_version``.

        Raises:
            ConflictingLength: the drive has another version by now; some of it may be cleared.
            NotWritable: it is ours, and no version was given.
        """
        for start in range(0, len(ranges), _RANGES_AT_ONCE):
            part = [(blocks.start, blocks.stop) for blocks in ranges[start : start + _RANGES_AT_ONCE]]
            await self.request("content.clear", key=key, ranges=part, expected_version=expected_version)

    async def blocks_in_use(self, content_key: bytes) -> list[range]:
        """Return which blocks of a content core the files lie in that programs have open in mounts of this store.

        Raises `DaemonError` when a mount does not tell.
        """
        return [range(start, stop) for start, stop in await self.request("content.in_use", key=content_key)]

    async def standing(self, key: bytes) -> list[dict[str, Any]]:
        """Return what is known of the cores of drive ``key`` from elsewhere: which are behind, or forked."""
        return list(await self.request("drive.standing", key=key, repeatable=True))

    async def accept_fork(self, key: bytes) -> None:
        """Go on with the history of drive ``key`` that is here."""
        await self.request("drive.accept_fork", key=key)

    async def secret_keys(self, key: bytes) -> dict[str, Any]:
        """Return the secret keys of drive ``key``, of its ``drive`` and ``content`` core, and their lengths."""
        return dict(await self.request("drive.secrets", key=key))

    async def adopt_drive(self, drive_secret: bytes, content_secret: bytes, lengths: tuple[int, int]) -> None:
        """Make a drive writable in this store, by its secret keys."""
        await self.request("drive.adopt", secrets=(drive_secret, content_secret), lengths=lengths)

    async def cache(self) -> dict[str, Any]:
        """Return the ``limit`` in bytes for copies of others' content (None: none), and the ``drives`` kept."""
        return dict(await self.request("cache.show", repeatable=True))

    async def limit_cache(self, limit: int | None) -> None:
        """Keep at most ``limit`` bytes of copies of others' content, now and after each start."""
        await self.request("cache.limit", limit=limit)

    # Mounts

    async def mount(
        self,
        key: bytes,
        *,
        version: int | None,
        label: str,
        mountpoint: Path,
        options: Mapping[str, Any],
        peers: Iterable[str],
    ) -> str:
        """Mount a drive, now and after each start; return the mount's id once the folder is ready.

        Raises:
            UsageError: something is mounted there, or it overlaps the store.
            HyperfsError, OSError: what the mount failed of.
        """
        answer = await self.request(
            "mount.add",
            key=key,
            version=version,
            label=label,
            mountpoint=str(mountpoint),
            options=dict(options),
            peers=list(peers),
        )
        return str(answer)

    async def mounts(self) -> list[dict[str, Any]]:
        """Return what is mounted, a map each: ``id``, ``mountpoint``, ``key``, ``version``, ``state``, ``pid``, …"""
        return list(await self.request("mount.list", repeatable=True))

    async def unmount(self, id: str) -> None:
        """End a mount and forget it; returns once it is gone. Raises `UsageError` when there is none."""
        await self.request("mount.remove", id=id)

    async def wait_unmounted(self, id: str) -> None:
        """Return once the mount is gone for good, whoever ended it."""
        await self.request("mount.wait", id=id, repeatable=True)

    # The daemon itself

    async def status(self) -> dict[str, Any]:
        """Return everything that `hyperfs status` shows, as plain values."""
        return dict(await self.request("status", repeatable=True))

    async def stop(self) -> None:
        """Ask the daemon to end, with its mounts; it may not have ended yet on return."""
        await self.request("stop")

    def close(self) -> None:
        """Let go of the files of all views."""
        for view in self._views.values():
            view.close()
        self._views.clear()

    async def _within_limit(self, method: str, arguments: dict[str, Any], what: str) -> None:
        if self._timeout_seconds is None:
            await self._link.request(method, arguments, repeatable=True)
            return
        with trio.move_on_after(self._timeout_seconds) as scope:
            await self._link.request(method, arguments, repeatable=True)
        if scope.cancelled_caught:
            raise BlockNotAvailable(f"{what}: no peer sent it within {self._timeout_seconds:g} s")

    async def _restore(self) -> None:
        """Take up with a new daemon: tell it which cores we read, and take over its heads."""
        for key, view in list(self._views.items()):
            answer = await self.request("core.open", key=key)
            view.restarted(answer["length"], answer["byte_length"])

    def _noticed(self, notice: Notice) -> None:
        if notice.name == "head":
            self._apply_head(notice.arguments)
        elif notice.name == "in_use?":
            key, question = notice.arguments["key"], notice.arguments["question"]
            ranges = [(blocks.start, blocks.stop) for blocks in self.uses(key)]
            self.send("mount.uses", question=question, ranges=ranges)
        else:
            _log.debug("the daemon told of %s, which this version does not know", notice.name)

    def _apply_head(self, head: Mapping[str, Any]) -> None:
        view = self._views.get(head["key"])
        if view is not None and head["length"] > view.length:
            view.extended(head["length"], head["byte_length"])


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
) -> AsyncIterator[DaemonClient]:
    """Connect to the daemon of ``store``.

    With ``reconnect`` the client lives on when the daemon dies, and takes up with the next one (it never starts one
    itself then), calling ``restored`` each time; otherwise everything asked after that raises `DaemonError`.

    Raises:
        NoDaemon, OtherVersion, DaemonError: none runs and none is to be started; it is another; it does not answer.
        HyperfsError, OSError: what keeps a daemon from starting.
    """
    places = places_of(store)
    answer_seconds = min(HELLO_SECONDS, max(LEAST_ANSWER_SECONDS, timeout_seconds or math.inf))
    find = connect_or_start if start is Start.IF_NEEDED else connect_running
    connection = await find(places, answer_seconds=answer_seconds)
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
