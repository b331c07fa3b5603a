"""The drives of a store as a whole: which there are, and what they are called here.

The rule: names are this store's alone; nobody else hears of them, and a drive is the same by another.
"""

import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from hyperfs.core.core import Core
from hyperfs.daemon import requests as ask
from hyperfs.daemon.answers import DriveTold
from hyperfs.daemon.call import Call
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.session import Session
from hyperfs.daemon.state import keys_of, with_name
from hyperfs.drive.usage import last_change
from hyperfs.drive.volume import content_key_in
from hyperfs.errors import NotWritable, UsageError, short


async def list_drives(daemon: Daemon, session: Session, call: ask.ListDrives) -> tuple[DriveTold, ...]:
    """Return every drive of which something is here, or that is named, served or mounted."""
    mentioned = keys_of(daemon.state.state)
    here = await trio.to_thread.run_sync(daemon.store.keys)
    told = []
    for key in dict.fromkeys([*here, *map(bytes.fromhex, mentioned)]):
        with await daemon.store.lease(key) as core:
            content_key = content_key_in(await core.get(0)) if core.has(0, 1) else None
            if content_key is not None or key.hex() in mentioned:
                told.append(await _told(daemon, core, content_key))
    return tuple(told)


async def _told(daemon: Daemon, core: Core, content_key: bytes | None) -> DriveTold:
    state, key = daemon.state.state, core.key.hex()
    content_bytes = local_bytes = 0
    if content_key is not None:
        with await daemon.store.lease(content_key) as content:
            content_bytes = content.byte_length
        local_bytes = await trio.to_thread.run_sync(_allocated, daemon, content_key)
    return DriveTold(
        key=key,
        name=next((name for name, of in state.names.items() if of == key), None),
        writable=core.writable,
        version=core.length,
        content_bytes=content_bytes,
        local_bytes=local_bytes,
        served=any(one.key == key for one in state.served),
        pinned=any(one.key == key for one in state.pinned),
        mountpoints=tuple(one.mountpoint for one in state.mounts if one.key == key),
        changed=await last_change(core),
    )


def _allocated(daemon: Daemon, key: bytes) -> int:
    try:
        return os.stat(daemon.store.core_directory(key) / "data").st_blocks * 512
    except FileNotFoundError:
        return 0


async def name_drive(daemon: Daemon, session: Session, call: ask.NameDrive) -> None:
    """Call a drive something, or nothing. Cancelled, as `StateKeeper.change`."""
    await daemon.state.change(partial(with_name, key=call.key.hex(), name=call.name))


async def remove_drive(daemon: Daemon, session: Session, call: ask.RemoveDrive) -> int:
    """Delete what is here of a drive; returns how many bytes of disk that frees.

    Cancelled, it is here as before, or nothing is done with it any more, and it may be gone.

    Raises:
        UsageError: nothing of it is here, or it is in use.
        NotWritable: it is ours.
        DamagedStore, OSError.
    """
    key, state = call.key, daemon.state.state
    if key.hex() not in keys_of(state) and not await trio.to_thread.run_sync(daemon.store.contains, key):
        raise UsageError(f"nothing of drive {short(key)} is in this store: `hyperfs list` shows what is")
    with await daemon.store.lease(key) as core:
        is_ours = core.writable
        content_key = content_key_in(await core.get(0)) if core.has(0, 1) else None
    if is_ours and not call.even_ours:
        raise NotWritable(f"drive {short(key)} is yours: its secret key would go with it")
    keys = [key] if content_key is None else [key, content_key]
    _refuse_used(daemon, key, keys)
    await daemon.serving.forget(key)
    for one in keys:
        daemon.registry.forget(one)
    before = await trio.to_thread.run_sync(_disk_bytes, daemon, keys)
    await daemon.store.remove(keys)
    await trio.to_thread.run_sync(partial(shutil.rmtree, daemon.places.staging(key), ignore_errors=True))
    return before


def _refuse_used(daemon: Daemon, key: bytes, keys: list[bytes]) -> None:
    mounted = [mount.mountpoint for mount in daemon.state.state.mounts if mount.key == key.hex()]
    if mounted:
        raise UsageError(f"drive {short(key)} is mounted at {', '.join(mounted)}: `hyperfs umount` first")
    own = {daemon.serving.user_of(key), daemon.pins.user_of(key)}
    if any(daemon.registry.users_of(one) - own for one in keys):
        raise UsageError(
            f"drive {short(key)} is in use, by a command or as a part of a drive that is mounted or served: end that "
            "first"
        )


def _disk_bytes(daemon: Daemon, keys: list[bytes]) -> int:
    files = [file for key in keys for file in daemon.store.core_directory(key).glob("*")]
    return sum(file.stat().st_blocks * 512 for file in files)


ANSWERING: dict[type[Call[Any]], Callable[[Daemon, Session, Any], Awaitable[Any]]] = {
    ask.ListDrives: list_drives,
    ask.NameDrive: name_drive,
    ask.RemoveDrive: remove_drive,
}
