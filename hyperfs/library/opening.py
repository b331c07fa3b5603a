"""Opening a core in this process.

The rule: one owner for a core. While a program has one open, nobody else can; whoever comes second gets `StoreLocked`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from hyperfs.core.core import Core
from hyperfs.core.flushing import Flusher
from hyperfs.core.head_record import HeadRecord
from hyperfs.core.opening import stored_key
from hyperfs.core.shared_map import boot_id
from hyperfs.crypto import KEY_BYTES, KeyPair
from hyperfs.crypto import key_pair as new_key_pair
from hyperfs.errors import InvalidKey
from hyperfs.keys import parse_key
from hyperfs.library.core import OpenCore
from hyperfs.library.encodings import ValueEncoding, encoding_of
from hyperfs.library.source import PeerSource
from hyperfs.library.storages import HEAD_FILE, STANDING_FILE, Storage, directory_of, erase
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.status import Follow
from hyperfs.storage import Directory, DiskDirectory


@asynccontextmanager
async def open_core(
    storage: Storage,
    key: str | bytes | None = None,
    *,
    key_pair: KeyPair | None = None,
    create_if_missing: bool = True,
    overwrite: bool = False,
    sparse: bool = False,
    eager_update: bool = False,
    if_available: bool = False,
    value_encoding: str | ValueEncoding = "binary",
    store_secret_key: bool = True,
) -> AsyncIterator[OpenCore]:
    """Open the core in ``storage`` for as long as the block lasts, or make one there.

    ``storage`` is a directory's path, `memory`, or a function that is called with a file's name (``data``,
    ``bitfield``, ``tree``, ``signatures``, ``key`` or ``secret_key``) whenever that file is opened, and returns a
    `hyperfs.library.storages.RandomAccess`: so the secret key can lie elsewhere. The files are those of the reference.

    ``key`` (32 bytes, or text in any form that the commands take) is that of somebody else's core, or of the one that
    has to be there. ``key_pair`` makes it one's own. Without either a new core has a new key pair, unless
    ``create_if_missing`` is off. With ``overwrite`` what was stored is gone. ``store_secret_key`` off leaves the secret
    key out of the files; then ``key_pair`` is needed each time to write.

    Unless ``sparse``, everything that peers have is downloaded; if it is, only what is asked for, and its length is
    known to grow as blocks come, or by `OpenCore.update`, or with ``eager_update`` as soon as a peer says so.
    With ``if_available`` whoever reads waits only for what peers that are here have, as `OpenCore.get` says.
    ``value_encoding`` is ``binary``, ``utf-8``, ``json``, or an object with ``encode`` and ``decode``.

    When the block is left, also by an error or a cancellation, everything written is on the disk, whoever waits for
    anything gets `Closed`, and every connection of the core has ended. Raises `StoreLocked` when somebody has the core
    open, `InvalidKey` when there is none or another, `DamagedStore`, OSError, `UsageError`.
    """
    encoding = encoding_of(value_encoding)
    directory = directory_of(storage)
    wanted = parse_key(key) if isinstance(key, str) else key
    if wanted is not None and len(wanted) != KEY_BYTES:
        raise InvalidKey(f"a key of {len(wanted)} bytes, where one has {KEY_BYTES}")
    if key_pair is None and wanted is None and create_if_missing:
        found = None if overwrite else await trio.to_thread.run_sync(stored_key, directory)
        key_pair = new_key_pair() if found is None else None
    source = PeerSource()
    core = await _open(
        directory, source, key=wanted, key_pair=key_pair, keep_secret=store_secret_key, overwrite=overwrite
    )
    exchange = source.exchange = Exchange(core, Follow.LENGTH if eager_update or not sparse else Follow.NOTHING)
    opened = OpenCore(
        core, exchange, encoding=encoding, sparse=sparse, if_available=if_available, erase=partial(erase, directory)
    )
    flusher = Flusher(opened.failed)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            core.have_flushed(lambda: flusher.note(core))
            nursery.start_soon(flusher.run, trio.lowlevel.checkpoint)
            try:
                yield opened
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - raised again, but in no group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        await opened.close()


async def _open(
    directory: Directory,
    source: PeerSource,
    *,
    key: bytes | None,
    key_pair: KeyPair | None,
    keep_secret: bool,
    overwrite: bool,
) -> Core:
    """Open the core, with what keeps it through a crash where there is a place for that."""
    on_disk = isinstance(directory, DiskDirectory)
    return await Core.open(
        directory,
        key=key,
        key_pair=key_pair,
        source=source,
        keep_secret=keep_secret,
        overwrite=overwrite,
        record=HeadRecord(directory, HEAD_FILE, boot=boot_id()) if on_disk else None,
        fork_guard_path=directory.path / STANDING_FILE if isinstance(directory, DiskDirectory) else None,
    )
