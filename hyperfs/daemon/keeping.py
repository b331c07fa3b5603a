"""What the daemon does when it is asked about keeping: what is cleared, whose keys are here, which drives are forked.

The rule: what is ours alone is cleared only when the client says at which version it looked, so that nothing goes that
was written meanwhile.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hyperfs.core.core import Core
from hyperfs.daemon import answers as told
from hyperfs.daemon import requests as ask
from hyperfs.daemon.call import Call
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.session import Session
from hyperfs.daemon.status import writer_states
from hyperfs.errors import BlockNotAvailable, NotWritable, UsageError, short


def refuse_pruned(daemon: Daemon, core: Core, ranges: Sequence[range]) -> None:
    """Raise `BlockNotAvailable` for blocks of a core of ours that were cleared, when no peer has them."""
    if not core.writable or core.fork_guard.behind is not None:
        return
    exchange = daemon.replicator.exchange_of(core.discovery_key)
    for peer in exchange.open_peers if exchange is not None else ():
        if any(peer.availability.next_run(blocks.start, blocks.stop) is not None for blocks in ranges):
            return
    missing = next((run for blocks in ranges for run in core.missing(blocks.start, blocks.stop)), None)
    if missing is not None and missing.start < core.length:
        raise BlockNotAvailable(
            f"block {missing.start} of core {short(core.key)}: it was pruned from this store, where it was made, and "
            "no peer that is connected has it; name one that may with --peer HOST:PORT"
        )


async def prepare_to_write(daemon: Daemon, session: Session, call: ask.PrepareToWrite) -> None:
    """Ask the peers whether they have more of a drive of ours than is here."""
    await daemon.writers.committer(call.key, session.user)


async def make_way(daemon: Daemon, session: Session, call: ask.MakeWay) -> bool:
    """Give away the reserve, for a commit that a full disk stands in the way of."""
    return await (await daemon.writers.committer(call.key, session.user)).make_way()


async def clear_content(daemon: Daemon, session: Session, call: ask.ClearContent) -> None:
    """Forget blocks of a drive's content. Cancelled, some of them are forgotten."""
    _, content = await daemon.drive_cores(call.key, session.user)
    if not content.writable:
        if call.key in daemon.pins.drives():
            raise UsageError(f"drive {short(call.key)} is pinned, to be kept here: `hyperfs unpin` it first")
        await content.clear_all(call.ranges)
    elif call.expected_version is None:
        raise NotWritable(f"drive {short(call.key)} is yours: nobody may have what is cleared here; prune it instead")
    else:
        committer = await daemon.writers.committer(call.key, session.user)
        await committer.clear(call.ranges, expected_version=call.expected_version)
    if daemon.store.reserve.wanted:
        await daemon.store.reserve.make()


async def blocks_in_use(daemon: Daemon, session: Session, call: ask.BlocksInUse) -> tuple[range, ...]:
    """Return which blocks of a content core the files that are open in mounts lie in."""
    return await daemon.readers.blocks_in_use(call.key)


async def get_writer_states(
    daemon: Daemon, session: Session, call: ask.GetWriterStates
) -> tuple[told.WriterState, ...]:
    """Return what is known of a drive's cores from elsewhere."""
    return await writer_states(await daemon.drive_cores(call.key, session.user))


async def accept_fork(daemon: Daemon, session: Session, call: ask.AcceptFork) -> None:
    """Go on with the history of a drive that is here. Cancelled, it may be decided for one of its cores alone."""
    for core in await daemon.drive_cores(call.key, session.user):
        await core.fork_guard.accept_fork()


async def get_secrets(daemon: Daemon, session: Session, call: ask.GetSecrets) -> told.SecretKeys:
    """Return the secret keys of a drive, for the user whose store this is."""
    metadata, content = await daemon.drive_cores(call.key, session.user)
    if metadata.secret_key is None or content.secret_key is None:
        raise NotWritable(f"drive {short(metadata.key)} is not yours: its secret key is not in this store")
    return told.SecretKeys(metadata.secret_key, content.secret_key, (metadata.length, content.length))


async def adopt_drive(daemon: Daemon, session: Session, call: ask.AdoptDrive) -> None:
    """Make a drive writable in this store. Cancelled, its content core may be writable alone; asking again goes on."""
    secrets = call.secrets
    # the content first: a drive is writable when its metadata is
    for secret, length in ((secrets.content, secrets.lengths[1]), (secrets.drive, secrets.lengths[0])):
        core = await daemon.store.adopt(secret)
        await core.fork_guard.note_signed(length)
        is_content = secret == secrets.content
        daemon.registry.adopted(await daemon.registry.open(core.key, session.user, is_content=is_content))


async def pin(daemon: Daemon, session: Session, call: ask.Pin) -> tuple[str, ...]:
    """Keep all of a drive and offer it, now and after each start; returns as `serve`. Cancelled, as `Serving.serve`."""
    return await daemon.serving.serve(call.key, listen=(), peers=call.peers, pinned=True)


async def unpin(daemon: Daemon, session: Session, call: ask.Unpin) -> None:
    """Keep a drive no more for its own sake. Cancelled, as `Serving.unpin`."""
    await daemon.serving.unpin(call.key)


async def get_cache(daemon: Daemon, session: Session, call: ask.GetCache) -> told.CacheUse:
    """Return the cache's limit and what is in it."""
    return told.CacheUse(daemon.cache.limit, tuple(await daemon.cache.drives()))


async def limit_cache(daemon: Daemon, session: Session, call: ask.LimitCache) -> None:
    """Keep at most so many bytes of others' content, now and after each start; returns when that is so."""
    await daemon.state.change(lambda state: dataclasses.replace(state, cache_limit=call.limit))
    if call.limit is not None:
        await daemon.cache.tidy(call.limit)


ANSWERING: dict[type[Call[Any]], Callable[[Daemon, Session, Any], Awaitable[Any]]] = {
    ask.AcceptFork: accept_fork,
    ask.AdoptDrive: adopt_drive,
    ask.BlocksInUse: blocks_in_use,
    ask.ClearContent: clear_content,
    ask.GetCache: get_cache,
    ask.GetSecrets: get_secrets,
    ask.GetWriterStates: get_writer_states,
    ask.LimitCache: limit_cache,
    ask.MakeWay: make_way,
    ask.Pin: pin,
    ask.Unpin: unpin,
    ask.PrepareToWrite: prepare_to_write,
}
