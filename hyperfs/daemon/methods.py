"""What can be asked of the daemon, one function each; the table at the end names them.

The rule: a handler gets plain values and returns plain values, does not hold on to its session, and may be cancelled
at any await.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperfs import __version__
from hyperfs.core.reader import Hint, Priority
from hyperfs.daemon.addresses import format_address, parse_address
from hyperfs.daemon.keeping import METHODS as KEEPING_METHODS
from hyperfs.daemon.keeping import refuse_pruned, standings
from hyperfs.daemon.places import refuse_overlap
from hyperfs.daemon.registry import checked_key
from hyperfs.daemon.session import Handler, Session, head_of
from hyperfs.daemon.state import MountRecord, Served
from hyperfs.daemon.supervisor import MountState
from hyperfs.drive.commits import decode_operation
from hyperfs.errors import DaemonError, UsageError

Arguments = Mapping[str, Any]


async def core_open(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Open a core for as long as the session lasts, and tell of its heads."""
    daemon = session.daemon
    core = await daemon.registry.open(_key(arguments), session.user)
    return {
        **head_of(core),
        "directory": str(daemon.store.core_directory(core.key)),
        "map": str(daemon.places.map(core.discovery_key)),
        "writable": core.writable,
    }


async def core_head(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Return a core's newest head."""
    return head_of(await session.daemon.store.core(_key(arguments)))


async def core_fetch(session: Session, arguments: Arguments) -> None:
    """Bring blocks; returns when they are here."""
    core = await session.daemon.registry.open(_key(arguments), session.user)
    ranges = [range(start, end) for start, end in arguments["ranges"]]
    if all(core.has(blocks.start, blocks.stop) for blocks in ranges):
        return
    refuse_pruned(session.daemon, core, ranges)
    session.daemon.refuse_without_peers(core)
    extension, payload = arguments.get("hint") or (None, b"")
    hint = None if extension is None else Hint(extension, payload)
    await core.fetch(ranges, priority=Priority(arguments["priority"]), hint=hint)


async def core_seek(session: Session, arguments: Arguments) -> None:
    """Bring the block that holds a byte offset."""
    core = await session.daemon.registry.open(_key(arguments), session.user)
    session.daemon.refuse_without_peers(core)
    start, end = arguments["blocks"]
    source = session.daemon.replicator
    await source.seek(core, arguments["byte_offset"], range(start, end), Priority(arguments["priority"]))


async def core_update(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Ask the peers for a newer head; returns it once they have answered."""
    core = await session.daemon.registry.open(_key(arguments), session.user)
    if session.daemon.has_peers():
        await session.daemon.swarm.wait_tried()
        await core.update()
    return head_of(core)


async def core_audit(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Read a core's blocks again and forget those that do not match the tree; returns how many were here, and these."""
    core = await session.daemon.registry.open(_key(arguments), session.user)
    here = core.count(0, core.length)
    return {"here": here, "bad": await core.audit()}


async def drive_create(session: Session, arguments: Arguments) -> bytes:
    """Make a new, empty drive."""
    return await session.daemon.create_drive()


async def drive_gather(session: Session, arguments: Arguments) -> None:
    """Take in a part of a commit that is too large for one frame; ``gathered`` operations came before it."""
    if not arguments["gathered"]:
        session.gathered.clear()
    _refuse_if_incomplete(session, arguments)
    session.gathered += [decode_operation(fields) for fields in arguments["operations"]]


async def drive_commit(session: Session, arguments: Arguments) -> int:
    """Append operations, after those that were gathered, to a drive's metadata in one batch; returns the version."""
    committer = await session.daemon.committer(_key(arguments))
    operations = [decode_operation(fields) for fields in arguments["operations"]]
    if arguments["gathered"]:
        _refuse_if_incomplete(session, arguments)
        operations = [*session.gathered, *operations]
        session.gathered.clear()
    return await committer.commit(operations, expected_version=arguments["expected_version"])


async def drive_sync(session: Session, arguments: Arguments) -> None:
    """Return once everything committed to a drive before is on disk."""
    await (await session.daemon.committer(arguments["key"])).sync()


async def content_release(session: Session, arguments: Arguments) -> None:
    """Give a lease back; returns once everything sent under it has been appended."""
    lease = session.leases.get(arguments["lease"])
    if lease is not None:
        lease.send.close()
        await lease.ended.wait()


async def peers_use(session: Session, arguments: Arguments) -> None:
    """Dial these peers while the session lasts."""
    session.daemon.peers.hold(session.user, arguments["addresses"])


async def peers_count(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Return how many peers are connected, how many are dialled, and which of these could not be reached, and why."""
    daemon = session.daemon
    unreached = {format_address(*address): problem for address, problem in daemon.swarm.unreached.items()}
    connected = len(daemon.replicator.status().peers)
    return {"connected": connected, "dialled": len(daemon.swarm.peers), "unreached": unreached}


async def peers_add(session: Session, arguments: Arguments) -> None:
    """Dial these peers now and after each start."""
    daemon = session.daemon
    daemon.peers.hold("state", arguments["addresses"])
    daemon.state.change(peers=_united(daemon.state.state.peers, arguments["addresses"]))


async def peers_remove(session: Session, arguments: Arguments) -> None:
    """Dial these peers no more."""
    daemon = session.daemon
    for address in arguments["addresses"]:
        if address not in daemon.state.state.peers:
            raise UsageError(f"{address} is not among the remembered peers; `hyperfs peer list` shows them")
    left = [address for address in daemon.state.state.peers if address not in arguments["addresses"]]
    daemon.state.change(peers=tuple(left))
    daemon.peers.release("state")
    daemon.peers.hold("state", left)


async def serve(session: Session, arguments: Arguments) -> list[str]:
    """Offer a drive, now and after each start; returns where peers can reach us."""
    daemon = session.daemon
    key = _key(arguments)
    state = daemon.state.state
    wanted = [parse_address(address) for address in arguments["listen"]]
    listening = [await daemon.swarm.listen(*address) for address in wanted]
    await daemon.serving.add(key)
    before = next((served.peers for served in state.served if served.key == key.hex()), ())
    served = Served(key.hex(), _united(before, arguments["peers"]))
    daemon.peers.hold(("served", key), served.peers)
    daemon.state.change(
        served=(*(other for other in state.served if other.key != served.key), served),
        listen=_united(state.listen, [format_address(address.host, address.port) for address in listening]),
    )
    daemon.has_changed()
    return [format_address(address.host, address.port) for address in daemon.swarm.listening]


async def unserve(session: Session, arguments: Arguments) -> None:
    """Offer a drive no more; with the last one, stop listening."""
    daemon = session.daemon
    key = _key(arguments)
    left = tuple(served for served in daemon.state.state.served if served.key != key.hex())
    if len(left) == len(daemon.state.state.served):
        raise UsageError(f"drive {key.hex()} is not served")
    if left:
        daemon.state.change(served=left)
    else:
        daemon.state.change(served=(), listen=())
        for address in daemon.swarm.listening:
            await daemon.swarm.unlisten(address.host, address.port)
    daemon.serving.remove(key)
    daemon.peers.release(("served", key))
    daemon.has_changed()


async def mount_add(session: Session, arguments: Arguments) -> str:
    """Mount a drive, now and after each start; returns once the folder is ready."""
    daemon = session.daemon
    mountpoint = Path(arguments["mountpoint"])
    refuse_overlap(mountpoint, daemon.places.store)
    record = MountRecord(
        id=hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest(),
        key=_key(arguments).hex(),
        version=arguments["version"],
        mountpoint=str(mountpoint),
        label=arguments["label"],
        options=arguments["options"],
        peers=tuple(arguments["peers"]),
    )
    mount = daemon.supervisor.add(record)
    daemon.has_changed()
    daemon.peers.hold(("mount", record.id), record.peers)
    try:
        await mount.tried.wait()
        if mount.state is MountState.READY:
            daemon.state.change(mounts=(*daemon.state.state.mounts, record))
            return record.id
    except BaseException:  # nobody is left to be told of the folder: take it back
        mount.stop.set()
        daemon.nursery.start_soon(daemon.supervisor.end, mount)
        raise
    failure = mount.failure or UsageError(f"{mountpoint}: unmounted before it was ready")
    await daemon.supervisor.end(mount)
    raise failure


async def mount_list(session: Session, arguments: Arguments) -> list[dict[str, Any]]:
    """Return every mount."""
    return [mount.describe() for mount in session.daemon.supervisor.all()]


async def mount_remove(session: Session, arguments: Arguments) -> None:
    """Unmount and forget."""
    await session.daemon.supervisor.remove(arguments["id"])


async def mount_wait(session: Session, arguments: Arguments) -> None:
    """Return once a mount is gone."""
    for mount in session.daemon.supervisor.all():
        if mount.record.id == arguments["id"]:
            await mount.gone.wait()


async def mount_attach(session: Session, arguments: Arguments) -> dict[str, Any]:
    """From a mount's process: it serves this mount. Returns what to mount."""
    record = session.daemon.supervisor.attached(arguments["id"], arguments["pid"])
    session.mount_id = record.id
    session.daemon.readers.attached(record.id, session.tell)
    return {
        "key": bytes.fromhex(record.key),
        "version": record.version,
        "mountpoint": record.mountpoint,
        "options": record.options,
    }


async def mount_ready(session: Session, arguments: Arguments) -> None:
    """From a mount's process: the folder answers, and may be written to or not."""
    session.daemon.supervisor.is_ready(arguments["id"], writable=arguments["writable"])


async def mount_ends(session: Session, arguments: Arguments) -> None:
    """From a mount's process: it ends, of this failure, because its folder was unmounted, or since it was told to."""
    session.daemon.supervisor.ends(arguments["id"], arguments["failure"], unmounted=arguments["unmounted"])


async def status(session: Session, arguments: Arguments) -> dict[str, Any]:
    """Return everything that there is to know."""
    daemon = session.daemon
    replication = daemon.replicator.status()
    shared = {core.key: core for core in replication.cores}
    drives = []
    for served in daemon.state.state.served:
        core = shared.get(bytes.fromhex(served.key))
        drives.append(
            {
                "key": served.key,
                "version": core.length if core else 0,
                "peers": core.peers if core else 0,
                "named_peers": list(served.peers),
            }
        )
    return {
        "store": str(daemon.places.store),
        "pid": os.getpid(),
        "hyperfs": __version__,
        "listening": [format_address(address.host, address.port) for address in daemon.swarm.listening],
        "serving": drives,
        "mounts": [mount.describe() for mount in daemon.supervisor.all()],
        "dialling": daemon.peers.addresses(),
        "remembered_peers": list(daemon.state.state.peers),
        "peers": [
            {
                "name": peer.name,
                "id": peer.remote_key.hex() if peer.remote_key else None,
                "dialled": peer.initiator,
                "connected_seconds": peer.connected_seconds,
                "cores": len(peer.cores),
                "downloaded_bytes": peer.downloaded_bytes,
                "uploaded_bytes": peer.uploaded_bytes,
                "download_rate": peer.download_rate,
                "upload_rate": peer.upload_rate,
                "in_flight": peer.in_flight,
                "round_trip_seconds": peer.round_trip_seconds,
            }
            for peer in replication.peers
        ],
        "standing": standings(daemon.store.opened()),
        "fetching": [
            {"core": core.key.hex(), "waiting": core.demands, "in_flight": core.in_flight, "peers": core.peers}
            for core in replication.cores
            if core.demands or core.in_flight
        ],
    }


async def stop(session: Session, arguments: Arguments) -> None:
    """End the daemon."""
    session.daemon.stop()


METHODS: Mapping[str, Handler] = {
    **KEEPING_METHODS,
    "core.open": core_open,
    "core.head": core_head,
    "core.fetch": core_fetch,
    "core.seek": core_seek,
    "core.update": core_update,
    "core.audit": core_audit,
    "drive.create": drive_create,
    "drive.commit": drive_commit,
    "drive.gather": drive_gather,
    "drive.sync": drive_sync,
    "content.release": content_release,
    "peers.use": peers_use,
    "peers.count": peers_count,
    "peers.add": peers_add,
    "peers.remove": peers_remove,
    "serve": serve,
    "unserve": unserve,
    "mount.add": mount_add,
    "mount.list": mount_list,
    "mount.remove": mount_remove,
    "mount.wait": mount_wait,
    "mount.attach": mount_attach,
    "mount.ready": mount_ready,
    "mount.ends": mount_ends,
    "status": status,
    "stop": stop,
}


def _key(arguments: Arguments) -> bytes:
    return checked_key(arguments["key"])


def _refuse_if_incomplete(session: Session, arguments: Arguments) -> None:
    """Raise when not all of a commit's parts were sent over this connection: an earlier daemon may have had them."""
    if len(session.gathered) != arguments["gathered"]:
        raise DaemonError("the parts of a commit did not all reach the same daemon")


def _united(first: tuple[str, ...], second: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
