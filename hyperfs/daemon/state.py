"""What a store's daemon is to do: the drives it serves, its mounts, its peers, the addresses it listens at.

The rule: the state has one owner, and is changed by functions of it, so that nobody holds one over an await and writes
it back. What stands in the file is whole, the old state or a new one, and it is on the disk before the command that
changed it is answered. It is read once, when the daemon starts.
"""

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from hyperfs.core.reserve import Reserve
from hyperfs.daemon.codec import from_plain, to_plain
from hyperfs.errors import DamagedStore, EncodingError, UsageError
from hyperfs.mount import DEFAULT_FLUSH_SECONDS, MountOptions
from hyperfs.storage.disk import replace_file

_log = logging.getLogger(__name__)

_FORMAT: Final = 1

MAX_ACQUAINTANCES: Final = 4
"""Of how many peers it is remembered that a drive was had from them."""
MAX_ACQUAINTED_DRIVES: Final = 1024
"""Of how many drives; those that were had last."""


@dataclass(frozen=True, slots=True)
class MountChoices(MountOptions):
    """What a user chose about a mount, as it is sent and remembered."""

    read_only: bool = False
    flush_seconds: float = DEFAULT_FLUSH_SECONDS
    announces: bool = True
    """Whether others learn that they can have what is here of the drive; one of ours is announced only if served."""


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
    options: MountChoices
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Everything that comes back when the daemon is started again."""

    served: tuple[Served, ...] = ()
    mounts: tuple[MountRecord, ...] = ()
    peers: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    """Where peers are accepted, if not at the store's own port (``HOST:PORT``)."""
    port: int | None = None
    """The store's own port, if that is not the default one."""
    cache_limit: int | None = None
    """How many bytes of others' content are kept; None: any amount."""
    names: dict[str, str] = field(default_factory=dict)
    """What drives (their keys) are called here, by their names."""
    pinned: tuple[Served, ...] = ()
    """The drives of which everything is kept here; they are offered like those that are served."""
    acquaintances: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The peers (``HOST:PORT``) that drives (their keys) were had from, the latest first: see `acquaintances`."""


Edit = Callable[[State], State]


@dataclass(slots=True, eq=False)
class _Change:
    edit: Edit
    after: State
    """The state with it and all changes before it."""
    saved: trio.Event = field(default_factory=trio.Event)
    failure: OSError | None = None


class StateKeeper:
    """Owns the state and its file; `run` is the only one who writes it. ``on_change`` gets the old state and the new.

    ``on_change`` is called in the same step in which the state changes, and must not raise: what the daemon does
    follows the state, and never the other way round. On a full disk the state is saved in what ``reserve`` has.
    """

    def __init__(
        self, path: Path, state: State, on_change: Callable[[State, State], None], reserve: Reserve | None = None
    ) -> None:
        """Own ``path``, where ``state`` stands: see `read_state`."""
        self.state = state
        self._path = path
        self._on_change = on_change
        self._reserve = reserve
        self._durable = state
        self._changes: list[_Change] = []
        self._wake = trio.Event()
        self._writing = trio.Lock()

    async def change(self, edit: Edit) -> None:
        """Change the state at once, and return when that is on the disk.

        Cancelled while it waits, the state stays changed, and is saved all the same.

        Raises:
            OSError: it cannot be written; the state is as it would be without ``edit``.
        """
        change = self.change_soon(edit)
        await change.saved.wait()
        if change.failure is not None:
            raise change.failure

    def change_soon(self, edit: Edit) -> _Change:
        """Change the state at once, and let it be saved without waiting for that; a failure is logged."""
        change = _Change(edit, edit(self.state))
        self._changes.append(change)
        self._show(change.after)
        self._wake.set()
        return change

    async def run(self) -> None:
        """Save what is changed, until cancelled; see `save`."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self.save()

    async def save(self) -> None:
        """Return once everything changed so far is on the disk, or was taken back because it cannot be.

        Cancelled, it has been written or not as a whole, and whoever waits for it is told which.
        """
        async with self._writing:
            while self._changes:
                taken = len(self._changes)
                state = self._changes[-1].after
                failure: OSError | None = None
                with trio.CancelScope(shield=True):
                    try:
                        await self._write(state)
                    except OSError as error:
                        failure = error
                        _log.error("%s: what changed cannot be kept: %s", self._path, error)
                    else:
                        self._durable = state
                done, self._changes = self._changes[:taken], self._changes[taken:]
                if failure is not None:
                    self._take_back()
                for change in done:
                    change.failure = failure
                    change.saved.set()

    async def _write(self, state: State) -> None:
        write = partial(trio.to_thread.run_sync, _write, self._path, state)
        await (write() if self._reserve is None else self._reserve.spend_on(write))

    def _take_back(self) -> None:
        """Show the state that is on the disk, with those changes that came since the ones that failed."""
        state = self._durable
        for change in self._changes:
            state = change.after = change.edit(state)
        self._show(state)

    def _show(self, state: State) -> None:
        old, self.state = self.state, state
        if state != old:
            self._on_change(old, state)


def read_state(path: Path) -> State:
    """Return the state that stands at ``path``; none there is the empty state.

    Raises:
        DamagedStore: what stands there is no state.
        OSError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return State()
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise EncodingError("no map of fields")
        format = fields.pop("format", None)
        if format != _FORMAT:
            raise DamagedStore(f"{path}: written by another version of hyperfs (format {format}); use that version")
        return from_plain(State, fields)
    except (ValueError, EncodingError) as error:
        raise DamagedStore(
            f"{path}: not readable ({error}); remove it to start with nothing served or mounted"
        ) from error


def _write(path: Path, state: State) -> None:
    text = json.dumps({"format": _FORMAT, **to_plain(state)}, indent=2)
    replace_file(path, (text + "\n").encode())


def with_served(state: State, key: str, peers: tuple[str, ...]) -> State:
    """Return the state in which a drive is served, too, with these peers beside those that were named before."""
    return dataclasses.replace(state, served=_with(state.served, key, peers))


def with_pinned(state: State, key: str, peers: tuple[str, ...]) -> State:
    """Return the state in which a drive is pinned, too, with these peers beside those that were named before."""
    return dataclasses.replace(state, pinned=_with(state.pinned, key, peers))


def without(drives: tuple[Served, ...], key: str) -> tuple[Served, ...]:
    """Return those of ``drives`` that are another than ``key``."""
    return tuple(one for one in drives if one.key != key)


def _with(drives: tuple[Served, ...], key: str, peers: tuple[str, ...]) -> tuple[Served, ...]:
    before = next((one.peers for one in drives if one.key == key), ())
    return (*without(drives, key), Served(key, united(before, peers)))


def without_drive(state: State, key: str) -> State:
    """Return the state in which nothing is done with a drive, but for its mounts."""
    names = {name: of for name, of in state.names.items() if of != key}
    served, pinned = without(state.served, key), without(state.pinned, key)
    others = {of: peers for of, peers in state.acquaintances.items() if of != key}
    return dataclasses.replace(state, served=served, pinned=pinned, names=names, acquaintances=others)


def with_acquaintance(state: State, key: str, peer: str) -> State:
    """Return the state in which a drive is known to be had from ``peer``, too; some others may be forgotten for it."""
    before = tuple(one for one in state.acquaintances.get(key, ()) if one != peer)
    known = {of: peers for of, peers in state.acquaintances.items() if of != key}
    known[key] = (peer, *before)[:MAX_ACQUAINTANCES]
    while len(known) > MAX_ACQUAINTED_DRIVES:
        del known[next(iter(known))]
    return dataclasses.replace(state, acquaintances=known)


def with_name(state: State, key: str, name: str | None) -> State:
    """Return the state in which a drive is called ``name``, or nothing. Raises `UsageError` when another one is."""
    if name is not None and state.names.get(name, key) != key:
        raise UsageError(
            f"drive {state.names[name]} is called {name!r}: choose another name, or take it from that one with "
            f"`hyperfs name --delete {name}`"
        )
    names = {other: of for other, of in state.names.items() if of != key}
    return dataclasses.replace(state, names=names if name is None else names | {name: key})


def offered(state: State) -> dict[str, tuple[str, ...]]:
    """Return the keys of the drives that are offered to peers, served or pinned, and the peers named with each."""
    found: dict[str, tuple[str, ...]] = {}
    for one in (*state.served, *state.pinned):
        found[one.key] = united(found.get(one.key, ()), one.peers)
    return found


def keys_of(state: State) -> list[str]:
    """Return the keys of the drives that are served, pinned, mounted, or called something."""
    mounted = (record.key for record in state.mounts)
    return list(dict.fromkeys([*offered(state), *mounted, *state.names.values()]))


def united(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Return both, without what would stand there twice."""
    return tuple(dict.fromkeys((*first, *second)))
