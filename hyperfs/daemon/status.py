"""What the daemon tells about itself: snapshots, as the values that are sent.

The rule: nothing here waits for anybody, or holds others up, however many cores there are; and nothing is secret.
"""

import os
from collections.abc import Iterable

from hyperfs import __version__
from hyperfs.core.core import Core
from hyperfs.daemon.answers import (
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
from hyperfs.slices import in_slices
from hyperfs.swarm.interfaces import interfaces


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
    for one in daemon.state.state.served:
        core = shared.get(bytes.fromhex(one.key))
        served.append(ServedDrive(one.key, core.length if core else 0, core.peers if core else 0, one.peers))
    return Status(
        store=str(daemon.places.store),
        pid=os.getpid(),
        hyperfs=__version__,
        listening=daemon.serving.listening(),
        network=_network_told(daemon),
        serving=tuple(served),
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
