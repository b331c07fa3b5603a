"""The store of many cores: a directory laid out as the reference's corestore does.

The rule: one process owns a store at a time, and in it there is one `Core` a key. See docs/formats.md, "Names of
cores". hyperfs's own files live in `.hyperfs`, which the reference never looks at.
"""

import errno
import itertools
import logging
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from hyperfs import crypto, varint
from hyperfs.core.core import Core
from hyperfs.core.flushing import Flusher
from hyperfs.core.head_record import HeadRecord
from hyperfs.core.pool import CoreLease, CorePool
from hyperfs.core.reader import Source
from hyperfs.core.reserve import Reserve
from hyperfs.core.shared_map import boot_id
from hyperfs.crypto import KeyPair
from hyperfs.errors import DamagedStore, EncodingError, InvalidKey, UsageError, short
from hyperfs.storage import DeferredDirectory, Directory
from hyperfs.storage.disk import DiskDirectory, make_folder, sync_directory

log = logging.getLogger(__name__)

MASTER_KEY_BYTES = 32

_NAMESPACE = b"9\ncorestore"
_HEX = "[0-9a-f][0-9a-f]"
_CORE_FOLDERS = f"{_HEX}/{_HEX}/*"
_OF_STORES = {"master_key", ".hyperfs"}
_NOBODYS = {"lost+found"}


class Store:
    """All cores under one directory; one `Core` object a key. Made by `Store.open`, which takes its lock.

    Use ``async with run_store(path) as store``, which also flushes what is written soon after. Whoever uses
    `Store.open` runs `flush_forever` in a task of his own.
    """

    def __init__(
        self, path: Path, master_key: bytes, lock: "_Lock", *, maps: Path | None, source: Source | None
    ) -> None:
        self.path = path
        self.private = path / ".hyperfs"
        self.source = source
        self.reserve = Reserve(self.private / "reserve")
        self._maps = maps
        self._master_key = master_key
        self._lock = lock
        self._heads = DiskDirectory(self.private / "heads")
        self._boot = boot_id()
        self._flusher = Flusher()
        self._pool = CorePool(self._flusher.wake)

    @classmethod
    async def open(cls, path: Path, *, maps: Path | None = None, source: Source | None = None) -> Self:
        """Open or create the store at ``path``.

        ``maps`` is the directory of shared maps, ``source`` is given to every core. Raises `UsageError`, `StoreLocked`,
        `DamagedStore`.
        """
        lock, master_key = await trio.to_thread.run_sync(_open_in_thread, path)
        return cls(path, master_key, lock, maps=maps, source=source)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self.close()

    async def core(self, key: bytes) -> Core:
        """Open the core of ``key``: writable when its secret is here, else a reader's.

        Of one that is new nothing is on the disk before something of it is stored. It stays open as long as the store,
        unless it is held as well: see `hold`. Raises `StoreLocked` when another program has it, `DamagedStore`,
        `Closed`. Cancelled, it is open here or not, and whole on the disk.
        """
        return await self._open(key, None)

    async def lease(self, key: bytes) -> CoreLease:
        """Open the core of ``key`` as `core` does, and `hold` it."""
        return self.hold(await self.core(key))

    def hold(self, core: Core) -> CoreLease:
        """Keep a core of this store open until the lease is released.

        A core that was held and is held no longer may be closed by `flush_forever` at any await; at first a few dozen
        such stay open. Whoever uses a core that anybody holds has to hold it himself. Raises `Closed`.
        """
        return self._pool.hold(core)

    async def create_core(self, name: bytes | None = None) -> Core:
        """Open or create the writable core of ``name`` (32 random bytes by default).

        Cancelled, it may have been made: whoever chose the name gets it by that.
        """
        name = secrets.token_bytes(32) if name is None else name
        return await self._open(self.key_pair(name).public, name)

    async def content_core(self, metadata_key: bytes) -> Core:
        """Open or create the writable content core of the drive whose metadata core has ``metadata_key``.

        Cancelled, the next call has the same core.
        """
        return await self.create_core(metadata_key.hex().encode() + b"-content")

    def key_pair(self, name: bytes) -> KeyPair:
        """Return the key pair of the core called ``name``."""
        return crypto.key_pair(crypto.keyed_hash(self._master_key, _NAMESPACE, name))

    def opened(self) -> list[Core]:
        """Return the cores that are open."""
        return list(self._pool)

    def keys(self) -> list[bytes]:
        """Return the keys of all cores on disk, in the order of their discovery keys. Walks the directory."""
        return keys_in(self.path)

    def contains(self, key: bytes) -> bool:
        """Tell whether the core of ``key`` is on disk."""
        return (self.core_directory(key) / "key").exists()

    def core_directory(self, key: bytes) -> Path:
        """Return the directory of a core's SLEEP files."""
        return core_folder(self.path, key)

    def map_path(self, key: bytes) -> Path | None:
        """Return where a core's shared map is, None for a store without."""
        return None if self._maps is None else self._maps / f"{crypto.discovery_key(key).hex()}.map"

    def fork_guard_path(self, key: bytes) -> Path:
        """Return where it is noted what is known of a core of ours from elsewhere."""
        return self.private / "standing" / f"{crypto.discovery_key(key).hex()}.json"

    async def set_aside(self, key: bytes) -> Path:
        """Move what is here of a core into `.hyperfs/set-aside`, and return where; the core begins anew, as empty.

        If it was writable it still is, and knows how long the history was that contradicted it. It must not be in use.
        Cancelled, it is where it was, or has been moved; then a core of ours has to be adopted once more.
        """
        core = await self.core(key)
        fork, secret = core.fork_guard.fork, core.secret_key
        await self.close_core(key)
        aside = await trio.to_thread.run_sync(self._move_aside, key)
        self.fork_guard_path(key).unlink(missing_ok=True)
        fresh = await self.core(key) if secret is None else await self.adopt(secret)
        if fork is not None:
            await fresh.fork_guard.note_signed(fork.length)
        return aside

    async def adopt(self, secret_key: bytes) -> Core:
        """Make the core of a 64-byte secret key writable here, for good. Raises `InvalidKey`, and as `core`.

        Cancelled, it is writable or not, as the next opening shows.
        """
        pair = crypto.key_pair(secret_key[: crypto.KEY_BYTES])
        if pair.secret != secret_key:
            raise InvalidKey("that is not a secret key: its two halves do not belong together")
        core = await self.core(pair.public)
        await core.adopt(secret_key)
        return core

    async def remove(self, keys: Sequence[bytes]) -> None:
        """Delete these cores, with the secret keys of those of ours, for good; the first is synced after the others.

        They must not be in use. Cancelled, they are closed, or gone; whatever a crash leaves of them goes with the next
        that are removed. Raises OSError.
        """
        for key in keys:
            await self.close_core(key)
        await trio.to_thread.run_sync(self._delete, list(keys))

    async def close_core(self, key: bytes) -> None:
        """Close one core, if it is open, whoever holds it; opening it again makes a new object.

        Raises as `Core.close`. Cancelled, it is closed, or open as it was.
        """
        await self._pool.close_core(key)

    async def close_idle(self) -> None:
        """Close every core that was held and is held no longer, but for those that cannot be made durable now."""
        await self._pool.close_idle(keep=0)

    async def sync(self) -> None:
        """Return once everything written before, in any core, is on disk. Raises OSError at the first that fails.

        Cancelled, some of them may be on the disk.
        """
        for core in self._pool:
            await core.sync()

    async def flush_forever(self) -> None:
        """Sync each core soon after it was written to, and close those that nobody holds, until cancelled.

        A failure is logged and tried again.
        """
        await self._flusher.run(self._tidy)

    async def _tidy(self) -> None:
        await self._pool.close_idle()
        if self.reserve.wanted:
            await self.reserve.make()

    async def close(self) -> None:
        """Sync and close all cores and let go of the store; a second time does nothing. Cancelled, it still does.

        Raises OSError when one could not be synced; all are closed then as well.
        """
        with trio.CancelScope(shield=True):
            try:
                failures = await self._pool.close()
            finally:
                self._lock.release()
        if failures:
            raise failures[0]

    async def _open(self, key: bytes, name: bytes | None) -> Core:
        return await self._pool.get(key, partial(self._open_files, key, name))

    async def _open_files(self, key: bytes, name: bytes | None) -> Core:
        open_once = partial(self._open_once, key, name)
        try:
            return await self.reserve.spend_on(open_once)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not await self._pool.close_idle(keep=0):
                raise
            return await open_once()

    async def _open_once(self, key: bytes, name: bytes | None) -> Core:
        path = self.core_directory(key)
        directory, key_pair = await trio.to_thread.run_sync(self._prepare, path, key, name)
        core = await Core.open(
            directory,
            key=key,
            key_pair=key_pair,
            source=self.source,
            shared_map_path=self.map_path(key),
            fork_guard_path=self.fork_guard_path(key),
            record=HeadRecord(self._heads, path.name, boot=self._boot),
            keep_secret=False,
        )
        with ExitStack() as on_failure:
            on_failure.callback(core.close_without_sync)
            if core.syncs_after is not None:
                core.sync_after(await self.core(core.syncs_after))
            on_failure.pop_all()
        core.have_flushed(partial(self._flusher.note, core), self.reserve)
        return core

    def _move_aside(self, key: bytes) -> Path:
        directory = self.core_directory(key)
        for number in itertools.count(1):
            aside = self.private / "set-aside" / f"{directory.name}.{number}"
            if not aside.exists():
                break
        make_folder(aside.parent)
        directory.rename(aside)
        sync_directory(aside.parent)
        sync_directory(directory.parent)
        return aside

    def _delete(self, keys: list[bytes]) -> None:
        removed = self.private / "removed"
        make_folder(removed)
        for key in reversed(keys):  # as long as the first is there, it can be told which the others are
            directory = self.core_directory(key)
            for file in (self.map_path(key), self.fork_guard_path(key), self.private / "heads" / directory.name):
                if file is not None:
                    file.unlink(missing_ok=True)
            if directory.exists():
                directory.rename(removed / directory.name)
                sync_directory(directory.parent)
        shutil.rmtree(removed)

    def _prepare(self, path: Path, key: bytes, name: bytes | None) -> tuple[Directory, KeyPair | None]:
        """Return where the core in ``path`` is, and its key pair if it has a name; it gets ``name`` if it is new."""
        file = path / "name"
        try:
            stored = file.read_bytes()
        except FileNotFoundError:
            stored = b""
        if stored:
            found = _decode_name(file, stored)
            pair = self.key_pair(found)
            if pair.public != key:
                raise DamagedStore(
                    f"{file} does not name core {short(key)}: the name or the store's master_key is wrong"
                )
            return DiskDirectory(path), pair
        if name is not None:
            make_folder(path)
            _write_durably(file, varint.encode(len(name)) + name)
            return DiskDirectory(path), self.key_pair(name)
        # Of somebody else's core nothing is made on the disk before there is something to keep.
        return DiskDirectory(path) if path.exists() else DeferredDirectory(path), None


@asynccontextmanager
async def run_store(path: Path, *, maps: Path | None = None, source: Source | None = None) -> AsyncIterator[Store]:
    """Open or create a store, flush it in the background, and close it at the end. Raises as `Store.open`."""
    failure: Exception | None = None
    async with await Store.open(path, maps=maps, source=source) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.flush_forever)
            try:
                yield store
            except Exception as error:  # noqa: BLE001 - raised again below, as itself instead of in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


class _Lock:
    """The lock file of a store; owns its descriptor."""

    def __init__(self, path: Path) -> None:
        self._file = DiskDirectory(path).open("lock", create=True)
        with ExitStack() as on_failure:
            on_failure.callback(self._file.close)
            self._file.lock()
            on_failure.pop_all()

    def release(self) -> None:
        """Let go; a second time does nothing."""
        self._file.close()


def core_folder(path: Path, key: bytes) -> Path:
    """Return the directory of a core's SLEEP files in the store at ``path``."""
    name = crypto.discovery_key(key).hex()
    return path / name[:2] / name[2:4] / name


def keys_in(path: Path) -> list[bytes]:
    """Return the keys of all cores in the store at ``path``, whoever has it open. See `Store.keys`."""
    keys = [file.read_bytes() for file in sorted(path.glob(f"{_CORE_FOLDERS}/key"))]
    return [key for key in keys if len(key) == crypto.KEY_BYTES]


def refuse_other_folder(path: Path) -> None:
    """Raise `UsageError` for a folder of somebody's that is no store: nothing of it may be changed.

    What is not there, is empty, or is the root of an empty file system may become a store.
    """
    try:
        names = set(os.listdir(path)) - _NOBODYS
    except (FileNotFoundError, NotADirectoryError):  # making it says what is wrong, if something is
        return
    if names and not names & _OF_STORES and not any(path.glob(_CORE_FOLDERS)):
        raise UsageError(f"{path} is no store of drives, and not empty: name another folder with --store")


def _open_in_thread(path: Path) -> tuple[_Lock, bytes]:
    refuse_other_folder(path)
    private = path / ".hyperfs"
    make_folder(private)
    with ExitStack() as on_failure:
        lock = _Lock(private)
        on_failure.callback(lock.release)
        _keep_others_out(path)
        master_key = _master_key(path)
        on_failure.pop_all()
    return lock, master_key


def _keep_others_out(path: Path) -> None:
    """Make a store its owner's alone, of which others may see something; the folder itself comes last."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077 == 0:
        return
    inside = ("master_key", ".hyperfs", _HEX, f"{_HEX}/{_HEX}", _CORE_FOLDERS, f"{_CORE_FOLDERS}/*")
    for file in (*itertools.chain.from_iterable(map(path.glob, inside)), path):
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(file.lstat().st_mode)
            if mode & 0o077 and not file.is_symlink():
                file.chmod(mode & 0o700)
    log.warning("the store %s could be read by others until now", path)


def _master_key(path: Path) -> bytes:
    file = path / "master_key"
    try:
        master_key = file.read_bytes()
    except FileNotFoundError:
        master_key = b""
    if not master_key:
        if any(path.glob(f"{_CORE_FOLDERS}/name")):
            raise DamagedStore(f"{file} is missing, and cores of this store are named with it; restore it from a copy")
        master_key = secrets.token_bytes(MASTER_KEY_BYTES)
        _write_durably(file, master_key)
    if len(master_key) < MASTER_KEY_BYTES:
        raise DamagedStore(f"{file} is cut short: {len(master_key)} bytes, where it should have {MASTER_KEY_BYTES}")
    return master_key[:MASTER_KEY_BYTES]


def _decode_name(file: Path, stored: bytes) -> bytes:
    try:
        size, offset = varint.decode(stored)
    except EncodingError as error:
        raise DamagedStore(f"{file} does not hold a name: {error}") from error
    if offset + size > len(stored):
        raise DamagedStore(f"{file} is cut short: {len(stored)} bytes, where its name takes {offset + size}")
    return stored[offset : offset + size]


def _write_durably(file: Path, content: bytes) -> None:
    directory = DiskDirectory(file.parent)
    opened = directory.open(file.name, create=True)
    try:
        opened.write(0, content)
        opened.sync()
    finally:
        opened.close()
    directory.sync()
