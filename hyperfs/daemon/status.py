"""What the daemon tells about itself: snapshots, as the values that are sent.

The rule: nothing here waits for anybody, or holds others up, however many cores there are; and nothing is secret.
"""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Final

from hyperfs import __version__
from hyperfs.core.core import Core
from hyperfs.daemon.answers import (
    DriveAtWork,
    DriveShared,
    FetchingCore,
    ForkTold,
    NetworkTold,
    NodeTold,
    PeerTold,
    ServedDrive,
    Status,
    TopicTold,
    WriterState,
)
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.state import offered
from hyperfs.replication.peer import Peer
from hyperfs.slices import in_slices
from hyperfs.swarm.interfaces import interfaces

_RUNS_COUNTED: Final = 64


async def writer_states(cores: Iterable[Core]) -> tuple[WriterState, ...]:
    """Return which of ``cores`` are ours and behind their peers, or forked."""
    told = []
    async for core in in_slices(cores):
        if not core.writable:
            continue
        behind, fork = core.fork_guard.behind, core.fork_guard.fork
        if behind or fork:
            shown = None if fork is None else ForkTold(fork.length, fork.peer, fork.accepted)
            told.append(WriterState(core.key.hex(), core.length, behind, shown))
    return tuple(told)


async def status_of(daemon: Daemon) -> Status:
    """Return what `hyperfs status` shows of a daemon; of what changes meanwhile, some as it was and some as it is."""
    peers = [peer async for peer in in_slices(daemon.replicator.peer_statuses())]
    shared = {core.key: core async for core in in_slices(daemon.replicator.core_statuses())}
    standing = await writer_states(daemon.store.opened())
    served = []
    for key, named in offered(daemon.state.state).items():
        core = shared.get(bytes.fromhex(key))
        served.append(ServedDrive(key, core.length if core else 0, core.peers if core else 0, named))
    drives, has = await _drives_at_work(daemon)
    return Status(
        store=str(daemon.places.store),
        pid=os.getpid(),
        hyperfs=__version__,
        listening=daemon.serving.listening(),
        network=_network_told(daemon),
        serving=tuple(served),
        pinned=tuple(one.key for one in daemon.state.state.pinned),
        drives=drives,
        mounts=tuple(mount.describe() for mount in daemon.supervisor.all()),
        dialling=tuple(daemon.peers.addresses()),
        remembered_peers=daemon.state.state.peers,
        peers=tuple(
            PeerTold(
                name=peer.name,
                id=peer.remote_key.hex() if peer.remote_key else None,
                dialled=peer.initiator,
                connected_seconds=peer.connected_seconds,
                cores=len(peer.cores),
                downloaded_bytes=peer.downloaded_bytes,
                uploaded_bytes=peer.uploaded_bytes,
                download_rate=peer.download_rate,
                upload_rate=peer.upload_rate,
                in_flight=peer.in_flight,
                round_trip_seconds=peer.round_trip_seconds,
                has=tuple(has.get((peer.name, peer.remote_key), ())),
            )
            for peer in peers
        ),
        standing=standing,
        fetching=tuple(
            FetchingCore(core.key.hex(), core.demands, core.in_flight, core.peers)
            for core in shared.values()
            if core.demands or core.in_flight
        ),
    )


async def _drives_at_work(
    daemon: Daemon,
) -> tuple[tuple[DriveAtWork, ...], dict[tuple[str, bytes | None], list[DriveShared]]]:
    """Return the drives that are in use, and what each peer, by its name and key, has of them."""
    state = daemon.state.state
    names = {key: name for name, key in state.names.items()}
    pinned = {one.key for one in state.pinned}
    drives: list[DriveAtWork] = []
    has: dict[tuple[str, bytes | None], list[DriveShared]] = {}
    async for metadata in in_slices(daemon.registry.open_cores()):
        content_key = daemon.registry.content_key(metadata)
        if content_key is None and metadata.key.hex() not in pinned:
            continue
        content = daemon.registry.opened(content_key) if content_key is not None else None
        cores = [metadata] if content is None else [metadata, content]
        exchanges = [found for core in cores if (found := daemon.replicator.exchange_of(core.discovery_key))]
        length = sum(core.length for core in cores)
        content_here = 0 if content is None else content.count(0, content.length)
        drives.append(
            DriveAtWork(
                key=metadata.key.hex(),
                name=names.get(metadata.key.hex()),
                pinned=metadata.key.hex() in pinned,
                version=metadata.length,
                blocks=length,
                blocks_here=metadata.count(0, metadata.length) + content_here,
                content_bytes=0 if content is None else content.byte_length,
                local_bytes=0
                if not content_here or content is None
                else content.byte_length * content_here // content.length,
                waiting=sum(len(exchange.demands) for exchange in exchanges),
                in_flight=sum(len(exchange.under_way) for exchange in exchanges),
                peers=max((len(exchange.open_peers) for exchange in exchanges), default=0),
                sent_bytes=sum(peer.uploads.bytes for exchange in exchanges for peer in exchange.open_peers),
                problem=daemon.pins.problem(metadata.key),
            )
        )
        counts: Counter[tuple[str, bytes | None]] = Counter()
        for exchange in exchanges:
            for peer in exchange.open_peers:
                counts[peer.link.name, peer.link.remote_key] += _count_of(peer, exchange.core.length)
        for who, count in counts.items():
            has.setdefault(who, []).append(DriveShared(metadata.key.hex(), count, length))
    return tuple(drives), has


def _count_of(peer: Peer, length: int) -> int:
    """Return how many blocks a peer has, of the first ``length``, and in the first runs of them."""
    count = start = 0
    for _ in range(_RUNS_COUNTED):
        run = peer.availability.next_run(start, length)
        if run is None:
            break
        count += len(run)
        start = run.stop
    return count


def _network_told(daemon: Daemon) -> NetworkTold:
    network = daemon.network
    node = None
    if network.node is not None:
        seen_as = network.node.node.public_address()
        node = NodeTold(
            port=network.node.address.port,
            joined=network.node.node.bootstrapped,
            nodes=len(network.node.node.table),
            persistent=not network.node.node.ephemeral,
            seen_as=None if seen_as is None else str(seen_as),
            nat=network.node.node.nat().value,
        )
    near = interfaces() if network.settings.mdns else ()
    return NetworkTold(
        settings=network.settings,
        bootstrap=network.bootstrap,
        node=node,
        interfaces=tuple(one.host for one in near if one.host is not None and not one.is_loopback),
        problems=network.problems,
        topics=tuple(
            TopicTold(key.hex(), status.looks, status.port, status.found, status.looked)
            for key, status in daemon.finding.drives()
        ),
    )
