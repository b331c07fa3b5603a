"""What the daemon does when it is asked, one function for each kind of call; the tables at the end name them.

The rule: a handler does not hold on to its session, may be cancelled at any await, and holds nothing of the state over
one.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from hyperfs.daemon import answers as told
from hyperfs.daemon import drives, keeping
from hyperfs.daemon import requests as ask
from hyperfs.daemon.addresses import parse_address
from hyperfs.daemon.call import Call
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.leases import Lease, has_ended
from hyperfs.daemon.network_settings import NetworkSettings
from hyperfs.daemon.places import mount_id_at, refuse_overlap
from hyperfs.daemon.session import Asked, Handlers, Session, head_of
from hyperfs.daemon.slots import Slots
from hyperfs.daemon.state import MountRecord, State, united
from hyperfs.daemon.status import status_of
from hyperfs.daemon.supervisor import MountState
from hyperfs.drive.commits import Operation
from hyperfs.errors import DaemonError, UsageError
from hyperfs.slices import emptied

_LAST_WORD_SECONDS: Final = 5.0
"""How long a client that stops the daemon may take to read the answer."""

Answering = Callable[[Daemon, Session, Any], Awaitable[Any]]


async def open_core(daemon: Daemon, session: Session, call: ask.OpenCore) -> told.OpenedCore:
    """Open a core for as long as the session lasts, and tell of its heads."""
    core = await daemon.registry.open(call.key, session.user)
    return told.OpenedCore(
        head_of(core),
        str(daemon.store.core_directory(core.key)),
        str(daemon.places.map(core.discovery_key)),
        core.writable,
    )


async def leave_core(daemon: Daemon, session: Session, call: ask.LeaveCore) -> None:
    """Let go of a core before the session ends."""
    daemon.registry.release_core(call.key, session.user)


async def get_head(daemon: Daemon, session: Session, call: ask.GetHead) -> told.Head:
    """Return a core's newest head."""
    return head_of(await daemon.registry.open(call.key, session.user))


async def fetch(daemon: Daemon, session: Session, call: ask.Fetch) -> None:
    """Bring blocks; returns when they are here."""
    core = await daemon.registry.open(call.key, session.user)
    if all(core.has(blocks.start, blocks.stop) for blocks in call.ranges):
        return
    keeping.refuse_pruned(daemon, core, call.ranges)
    await daemon.with_peers(core, lambda: core.fetch(call.ranges, priority=call.priority, hint=call.hint))


async def prefetch(daemon: Daemon, session: Session, call: ask.Prefetch) -> None:
    """Begin to bring blocks."""
    core = await daemon.registry.open(call.key, session.user)
    core.prefetch(call.ranges, hint=call.hint)


async def seek(daemon: Daemon, session: Session, call: ask.Seek) -> None:
    """Bring the block that holds a byte offset."""
    core = await daemon.registry.open(call.key, session.user)
    await daemon.with_peers(core, lambda: daemon.replicator.seek(core, call.byte_offset, call.blocks, call.priority))


async def update(daemon: Daemon, session: Session, call: ask.Update) -> told.Head:
    """Ask the peers for a newer head; returns it once they have answered."""
    core = await daemon.registry.open(call.key, session.user)
    await daemon.update(core)
    return head_of(core)


async def audit(daemon: Daemon, session: Session, call: ask.Audit) -> told.Audited:
    """Read a core's blocks again and forget those that do not match the tree."""
    core = await daemon.registry.open(call.key, session.user)
    here = core.count(0, core.length)
    return told.Audited(here, tuple(await core.audit()))


async def create_drive(daemon: Daemon, session: Session, call: ask.CreateDrive) -> bytes:
    """Make a new, empty drive. Cancelled, it may have been made; nobody knows its key then."""
    return await daemon.create_drive()


async def gather(daemon: Daemon, session: Session, call: ask.Gather) -> None:
    """Take in a part of a commit that is too large for one frame."""
    if not call.gathered:
        session.gathered[call.key] = []
    _parts_of(session, call.key, call.gathered).extend(call.operations)


async def commit(daemon: Daemon, session: Session, call: ask.Commit) -> int:
    """Change a drive, after its content was appended. Cancelled, all of it stands or nothing of it."""
    operations = list(call.operations)
    if call.gathered:
        operations = [*_parts_of(session, call.key, call.gathered), *operations]
        del session.gathered[call.key]
    committer = await daemon.writers.committer(call.key, session.user)
    version = await committer.commit(operations, expected_version=call.expected_version)
    await emptied(operations)
    return version


async def sync_drive(daemon: Daemon, session: Session, call: ask.SyncDrive) -> None:
    """Return once everything committed to a drive before is on disk."""
    await (await daemon.writers.committer(call.key, session.user)).sync()


async def lease_content(daemon: Daemon, session: Session, call: ask.LeaseContent, asked: Asked) -> None:
    """Hold a lease until it is released or withdrawn; append what comes meanwhile."""
    lease = Lease()
    committer = await daemon.writers.committer(call.key, session.user)
    try:
        async with committer.content() as content:
            slots, descriptor = Slots.create()
            try:
                session.leases[asked.id] = lease
                core = committer.content_core
                asked.answer(told.LeaseGranted(asked.id, core.length, core.byte_length, descriptor))
                await lease.work(content, slots)
            finally:
                slots.close()
    finally:
        session.leases.pop(asked.id, None)
        lease.end()


async def append_content(daemon: Daemon, session: Session, call: ask.AppendContent, asked: Asked) -> None:
    """Hand content to its lease's task."""
    lease = session.leases.get(call.lease)
    if lease is None:
        asked.fail(has_ended())
    else:
        await lease.put(asked)


async def give_back_content(daemon: Daemon, session: Session, call: ask.GiveBackContent) -> None:
    """Forget what was appended under a lease. Cancelled, all of it or nothing."""
    lease = session.leases.get(call.lease)
    if lease is None:
        raise has_ended()
    await lease.give_back(call.start)


async def release_content(daemon: Daemon, session: Session, call: ask.ReleaseContent) -> None:
    """Give a lease back; returns once everything sent under it has been appended."""
    lease = session.leases.get(call.lease)
    if lease is not None:
        await lease.release()


async def use_peers(daemon: Daemon, session: Session, call: ask.UsePeers) -> None:
    """Dial these peers while the session lasts."""
    daemon.peers.hold(session.user, call.addresses)


async def count_peers(daemon: Daemon, session: Session, call: ask.CountPeers) -> told.PeerCount:
    """Return how many peers are connected and dialled, which of these could not be reached, and how finding them went.

    Of a core that is not open nobody was looked for.
    """
    core = daemon.registry.opened(call.key)
    looked = daemon.finding.words(core) if core is not None else ""
    return told.PeerCount(daemon.replicator.peer_count, len(daemon.swarm.peers), daemon.swarm.unreached, looked)


async def add_peers(daemon: Daemon, session: Session, call: ask.AddPeers) -> None:
    """Dial these peers now and after each start. Cancelled, as `StateKeeper.change`."""
    for address in call.addresses:
        parse_address(address)

    def added(state: State) -> State:
        return dataclasses.replace(state, peers=united(state.peers, call.addresses))

    daemon.peers.hold("state", call.addresses)  # also those that are there already: they are dialled at once
    await daemon.state.change(added)


async def remove_peers(daemon: Daemon, session: Session, call: ask.RemovePeers) -> None:
    """Dial these peers no more. Cancelled, as `StateKeeper.change`."""

    def removed(state: State) -> State:
        left = [address for address in state.peers if address not in call.addresses]
        return dataclasses.replace(state, peers=tuple(left))

    for address in call.addresses:
        if address not in daemon.state.state.peers:
            raise UsageError(f"{address} is not among the remembered peers; `hyperfs peer list` shows them")
    await daemon.state.change(removed)


async def serve(daemon: Daemon, session: Session, call: ask.Serve) -> tuple[str, ...]:
    """Offer a drive, now and after each start; returns where peers can reach us. Cancelled, as `Serving.serve`."""
    return await daemon.serving.serve(call.key, listen=call.listen, peers=call.peers)


async def unserve(daemon: Daemon, session: Session, call: ask.Unserve) -> None:
    """Offer a drive no more; with the last one, stop listening. Cancelled, as `Serving.unserve`."""
    await daemon.serving.unserve(call.key)


async def listen(daemon: Daemon, session: Session, call: ask.Listen) -> tuple[str, ...]:
    """Accept peers at these addresses, too; returns where that is done. Cancelled, as `Serving.listen_at`."""
    return await daemon.serving.listen_at(call.addresses)


async def unlisten(daemon: Daemon, session: Session, call: ask.Unlisten) -> tuple[str, ...]:
    """Accept nobody any more at these addresses; returns where that is done. Cancelled, as `Serving.unlisten_at`."""
    return await daemon.serving.unlisten_at(call.addresses)


async def mount_drive(daemon: Daemon, session: Session, call: ask.MountDrive) -> str:
    """Mount a drive, now and after each start; returns once the folder is ready.

    Cancelled, or when the state cannot be saved, what was begun is unmounted again, by and by.
    """
    mountpoint = Path(call.mountpoint)
    refuse_overlap(mountpoint, daemon.places.store)
    record = MountRecord(
        id=mount_id_at(mountpoint),
        key=call.key.hex(),
        version=call.version,
        mountpoint=str(mountpoint),
        label=call.label,
        options=call.options,
        peers=call.peers,
    )
    mount, is_new = await daemon.supervisor.join_or_add(record)
    daemon.has_changed()
    try:
        daemon.peers.hold(("mount", record.id), record.peers)
        await mount.tried.wait()
        if mount.state is MountState.READY:
            await daemon.state.change(partial(_with_mount, record=record))
            return record.id
    except BaseException:  # nobody is left to be told of the folder: take it back
        if is_new:
            mount.stop.set()
            daemon.nursery.start_soon(daemon.supervisor.end, mount)
        raise
    failure = mount.failure or UsageError(f"{mountpoint}: unmounted before it was ready; mount it again")
    await daemon.supervisor.end(mount)
    raise failure


async def list_mounts(daemon: Daemon, session: Session, call: ask.ListMounts) -> tuple[told.MountTold, ...]:
    """Return every mount."""
    return tuple(mount.describe() for mount in daemon.supervisor.all())


async def unmount(daemon: Daemon, session: Session, call: ask.Unmount) -> None:
    """Unmount and forget. Cancelled, as `Supervisor.remove`."""
    await daemon.supervisor.remove(call.id)


async def wait_unmounted(daemon: Daemon, session: Session, call: ask.WaitUnmounted) -> None:
    """Return once a mount is gone."""
    await daemon.supervisor.wait_gone(call.id)


async def attach_mount(daemon: Daemon, session: Session, call: ask.AttachMount) -> told.MountWanted:
    """From a mount's process: it serves this mount. Returns what to mount."""
    record = daemon.supervisor.attached(call.id, call.pid)
    session.mount_id = record.id
    daemon.readers.attached(record.id, session.tell)
    return told.MountWanted(bytes.fromhex(record.key), record.version, record.mountpoint, record.options)


async def mount_ready(daemon: Daemon, session: Session, call: ask.MountReady) -> None:
    """From a mount's process: the folder answers, and may be written to or not."""
    daemon.supervisor.is_ready(call.id, writable=call.writable)


async def mount_lives(daemon: Daemon, session: Session, call: ask.MountLives) -> None:
    """From a mount's process: it is about to begin, or to end."""
    daemon.supervisor.lives(call.id, call.committing)


async def mount_ends(daemon: Daemon, session: Session, call: ask.MountEnds) -> None:
    """From a mount's process: it ends, of this failure, because its folder was unmounted, or since it was told to."""
    daemon.supervisor.ends(call.id, call.failure, unmounted=call.unmounted, staged=call.staged)


async def mount_uses(daemon: Daemon, session: Session, call: ask.MountUses) -> None:
    """From a mount's process: what it was asked by `BlocksInUse`."""
    if session.mount_id is not None:
        daemon.readers.answered(call.question, session.mount_id, call.ranges)


async def link_in_mount(daemon: Daemon, session: Session, call: ask.LinkInMount) -> int | None:
    """Have a mount mount a drive in the one that it writes. Cancelled, as `Links.link`."""
    return await daemon.links.link(call)


async def mount_linked(daemon: Daemon, session: Session, call: ask.MountLinked) -> None:
    """From a mount's process: what it was told to do by `LinkInMount`."""
    if session.mount_id is not None:
        daemon.links.answered(call.question, session.mount_id, call.version, call.failure)


async def change_network(daemon: Daemon, session: Session, call: ask.ChangeNetwork) -> NetworkSettings:
    """Be in the network another way, until the daemon ends; returns all settings."""
    return daemon.change_network(call.change)


async def get_status(daemon: Daemon, session: Session, call: ask.GetStatus) -> told.Status:
    """Return everything that there is to know."""
    return await status_of(daemon)


async def stop(daemon: Daemon, session: Session, call: ask.Stop, asked: Asked) -> None:
    """End the mounts, answer with what stays staged of them, and end the daemon, also when cancelled."""
    try:
        asked.answer(await daemon.supervisor.end_all())
        with trio.move_on_after(_LAST_WORD_SECONDS):
            await session.sent()
    finally:
        daemon.stop()


def handlers_of(daemon: Daemon) -> Handlers:
    """Return what answers the calls of clients of ``daemon``."""
    return Handlers(
        answering={
            kind: partial(handler, daemon)
            for kind, handler in {**_ANSWERING, **keeping.ANSWERING, **drives.ANSWERING}.items()
        },
        long={ask.LeaseContent: partial(lease_content, daemon), ask.Stop: partial(stop, daemon)},
        in_order={ask.AppendContent: partial(append_content, daemon)},
    )


_ANSWERING: dict[type[Call[Any]], Answering] = {
    ask.OpenCore: open_core,
    ask.LeaveCore: leave_core,
    ask.GetHead: get_head,
    ask.Fetch: fetch,
    ask.Prefetch: prefetch,
    ask.Seek: seek,
    ask.Update: update,
    ask.Audit: audit,
    ask.CreateDrive: create_drive,
    ask.Gather: gather,
    ask.Commit: commit,
    ask.SyncDrive: sync_drive,
    ask.GiveBackContent: give_back_content,
    ask.ReleaseContent: release_content,
    ask.UsePeers: use_peers,
    ask.CountPeers: count_peers,
    ask.AddPeers: add_peers,
    ask.RemovePeers: remove_peers,
    ask.Serve: serve,
    ask.Unserve: unserve,
    ask.Listen: listen,
    ask.Unlisten: unlisten,
    ask.MountDrive: mount_drive,
    ask.ListMounts: list_mounts,
    ask.Unmount: unmount,
    ask.WaitUnmounted: wait_unmounted,
    ask.AttachMount: attach_mount,
    ask.MountReady: mount_ready,
    ask.MountLives: mount_lives,
    ask.MountEnds: mount_ends,
    ask.MountUses: mount_uses,
    ask.LinkInMount: link_in_mount,
    ask.MountLinked: mount_linked,
    ask.ChangeNetwork: change_network,
    ask.GetStatus: get_status,
}


def _with_mount(state: State, *, record: MountRecord) -> State:
    others = tuple(other for other in state.mounts if other.id != record.id)
    return dataclasses.replace(state, mounts=(*others, record))


def _parts_of(session: Session, key: bytes, gathered: int) -> list[Operation]:
    """Return the parts of a commit that came before.

    Raises `DaemonError` when not all were sent over this connection: an earlier daemon may have had them.
    """
    parts = session.gathered.get(key, [])
    if len(parts) != gathered:
        raise DaemonError("the parts of a commit did not all reach the same daemon; make it again")
    return parts
