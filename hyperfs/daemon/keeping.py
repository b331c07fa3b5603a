"""What can be asked of the daemon about keeping: what is cleared, whose keys are here, which drives are forked.

The rule: what is ours alone is cleared only when the client says at which version it looked, so that nothing goes that
was written meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperfs.core.core import Core
from hyperfs.daemon.session import Handler, Session
from hyperfs.errors import BlockNotAvailable, NotADrive, NotWritable, short

if TYPE_CHECKING:
    from hyperfs.daemon.server import Daemon

Arguments = Mapping[str, Any]


def standings(cores: Iterable[Core]) -> list[dict[str, Any]]:
    """Return, as plain values, which of ``cores`` are behind their peers, or forked."""
    told = []
    for core in cores:
        behind, fork = core.fork_guard.behind, core.fork_guard.fork
        if core.writable and (behind or fork):
            told.append(
                {
                    "core": core.key.hex(),
                    "length": core.length,
                    "behind": behind,
                    "fork": fork and {"length": fork.length, "peer": fork.peer, "accepted": fork.accepted},
                }
            )
    return told


def refuse_pruned(daemon: "Daemon", core: Core, ranges: Sequence[range]) -> None:
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
            f"block {missing.start} of core {short(core.key)} was pruned from this store, where it was made, and no "
            "peer that is connected has it"
        )


async def drive_lead(session: Session, arguments: Arguments) -> None:
    """Ask the peers whether they have more of a drive of ours than is here."""
    await session.daemon.committer(arguments["key"])


async def content_clear(session: Session, arguments: Arguments) -> None:
    """Forget blocks of a drive's content."""
    daemon = session.daemon
    ranges = [range(start, end) for start, end in arguments["ranges"]]
    _, content = await _cores(session, arguments["key"])
    if not content.writable:
        await content.clear_all(ranges)
    elif arguments["expected_version"] is None:
        raise NotWritable(f"drive {short(arguments['key'])} is yours: nobody may have what is cleared here")
    else:
        committer = await daemon.committer(arguments["key"])
        await committer.clear(ranges, expected_version=arguments["expected_version"])
    await daemon.store.reserve.make() if daemon.store.reserve.wanted else None


async def content_in_use(session: Session, arguments: Arguments) -> list[tuple[int, int]]:
    """Return which blocks of a content core the files that are open in mounts lie in."""
    return await session.daemon.readers.blocks_in_use(arguments["key"])


async def mount_uses(session: Session, arguments: Arguments) -> None:
    """From a mount's process: what it was asked by `content_in_use`."""
    if session.mount_id is not None:
        session.daemon.readers.answered(arguments["question"], session.mount_id, arguments["ranges"])


async def drive_make_way(session: Session, arguments: Arguments) -> bool:
    """Give away the reserve, for a commit that a full disk stands in the way of."""
    return await (await session.daemon.committer(arguments["key"])).make_way()


async def drive_standing(session: Session, arguments: Arguments) -> list[dict[str, Any]]:
    """Return what is known of a drive's cores from elsewhere."""
    return standings(await _cores(session, arguments["key"]))


async def drive_accept_fork(session: Session, arguments: Arguments) -> None:
    """Go on with the history of a drive that is here."""
    for core in await _cores(session, arguments["key"]):
        await core.fork_guard.accept_fork()


async def drive_secrets(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Return the secret keys of a drive, for the user whose store this is."""
    metadata, content = await _cores(session, arguments["key"])
    if metadata.secret_key is None or content.secret_key is None:
        raise NotWritable(f"drive {short(metadata.key)} is not yours: its secret key is not in this store")
    return {
        "drive": metadata.secret_key,
        "content": content.secret_key,
        "lengths": (metadata.length, content.length),
    }


async def drive_adopt(session: Session, arguments: Arguments) -> None:
    """Make a drive writable in this store."""
    store = session.daemon.store
    # the content first: a drive is writable when its metadata is
    for secret, length in reversed(list(zip(arguments["secrets"], arguments["lengths"], strict=True))):
        core = await store.adopt(secret)
        await core.fork_guard.note_signed(length)
        session.daemon.registry.adopted(core)


async def cache_show(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Return the cache's limit and what is in it."""
    cache = session.daemon.cache
    return {"limit": cache.limit, "drives": await cache.drives()}


async def cache_limit(session: Session, arguments: Arguments) -> None:
    """Keep at most so many bytes of others' content, now and after each start; returns when that is so."""
    limit = arguments["limit"]
    session.daemon.state.change(cache_limit=limit)
    session.daemon.cache.set_limit(limit)
    if limit is not None:
        await session.daemon.cache.tidy(limit)


async def _cores(session: Session, key: bytes) -> tuple[Core, Core]:
    """Return a drive's metadata and content."""
    registry = session.daemon.registry
    metadata = await registry.open(key, session.user)
    content_key = registry.content_key(metadata)
    if content_key is None:
        if not metadata.length:
            raise BlockNotAvailable(f"nothing of drive {short(key)} is here")
        await metadata.get(0)
        content_key = registry.content_key(metadata)
    if content_key is None:
        raise NotADrive(f"{short(key)} is not a drive")
    return metadata, await registry.open(content_key, session.user)


METHODS: Mapping[str, Handler] = {
    "cache.limit": cache_limit,
    "cache.show": cache_show,
    "content.clear": content_clear,
    "content.in_use": content_in_use,
    "drive.accept_fork": drive_accept_fork,
    "drive.adopt": drive_adopt,
    "drive.lead": drive_lead,
    "drive.make_way": drive_make_way,
    "drive.secrets": drive_secrets,
    "drive.standing": drive_standing,
    "mount.uses": mount_uses,
}
