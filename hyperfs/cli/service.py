"""``status``, ``stop``, ``daemon``: the process that owns the store."""

import sys
from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, run_with_running_daemon
from hyperfs.cli.output import (
    count_text,
    drive_text,
    duration_text,
    print_json,
    print_table,
    size_text,
    tell,
    where_text,
)

if TYPE_CHECKING:
    from hyperfs.daemon.answers import MountTold, NetworkTold, Status
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.daemon.places import Places
    from hyperfs.daemon.state import MountRecord


@command(
    epilog=examples(
        "hyperfs status",
        "hyperfs status --json | jq .mounts",
        "hyperfs status --watch                     a table that stays up to date",
    )
)
@click.option("-w", "--watch", is_flag=True, help="Show drives and peers at work, each second, until ^C.")
@common_options(network=False)
def status(common: Common, watch: bool) -> None:
    """Show what is mounted, served and fetched just now, and with whom.

    With --watch, of each drive in use: how much of it is here, what is wanted, how fast it comes and goes, and its
    peers; of each peer: the rates, how many requests wait for it, the round trip, and what it has.
    """
    if watch:
        from hyperfs.cli.watching import watch_status

        watch_status(common)
        return

    async def run(client: "DaemonClient") -> "Status":
        return await client.status()

    from hyperfs.cli.staged import staged_fields, staged_lines
    from hyperfs.daemon.codec import to_plain
    from hyperfs.daemon.places import Places

    found = run_with_running_daemon(common, run)
    places = Places(common.store.expanduser().resolve())
    if common.json:
        told = {"store": str(common.store)} if found is None else to_plain(found)
        print_json({"running": found is not None, **told, **staged_fields(places)})
        return
    if found is not None:
        _print_status(found, staged_lines(places))
        return
    if places.is_there():
        click.echo(f"no daemon runs for the store {common.store}")
    else:
        click.echo(f"there is no store at {common.store}")
    for line in staged_lines(places):
        click.echo(line)
    _print_remembered(places)


@command(epilog=examples("hyperfs stop"))
@click.option("-f", "--force", is_flag=True, help="Stop even while somebody is in a mounted folder.")
@common_options(json=False, network=False)
def stop(common: Common, force: bool) -> None:
    """End the daemon and its mounts. What was served and mounted comes back when it is started again.

    Refuses while somebody is in a mounted folder, unless --force: what is open there fails then. What was written to
    mounts is committed first, which may take as long as copying it. Status 1 says that some of it could not be: it is
    kept, and is committed after the next start.
    """
    import os
    import signal

    import trio

    from hyperfs.cli.mounts import with_commit_bar
    from hyperfs.daemon.places import Places
    from hyperfs.daemon.process import is_alive, read_announcement, wait_process
    from hyperfs.errors import DaemonError, OtherVersion, StillStaged

    announcement = read_announcement(Places(common.store.expanduser().resolve()))

    async def run(client: "DaemonClient") -> tuple[str, ...]:
        if not force:
            await _refuse_busy(client)
        return await with_commit_bar(client, client.stop)

    try:
        left = run_with_running_daemon(common, run)
    except OtherVersion:
        if announcement is None or not is_alive(announcement.pid):
            raise
        os.kill(announcement.pid, signal.SIGTERM)
        left = ()
    if left is None or announcement is None:
        tell(f"no daemon runs for the store {common.store}")
        for record in _living(Places(common.store.expanduser().resolve())):
            place = record.mountpoint
            tell(f"{place} is mounted still, waiting for one: `hyperfs umount {place}` takes it away")
        return

    async def wait() -> bool:
        with trio.move_on_after(60):
            await wait_process(announcement.pid)
            return True
        return False

    if not trio.run(wait):
        raise DaemonError(
            f"the daemon (process {announcement.pid}) has not ended yet; "
            f"{Places(common.store.expanduser().resolve()).log} says why"
        )
    if left:
        raise StillStaged("\n".join(left))


@command(
    epilog=examples("hyperfs daemon", "systemctl --user enable --now hyperfs     with the unit file from the docs")
)
@click.option("--idle", metavar="SECONDS", type=click.FloatRange(min=0), help="End after so long with nothing to do.")
@common_options(json=False, network=False, daemon=True)
def daemon(common: Common, idle: float | None) -> int:
    """Run the daemon in the foreground, for systemd or to watch its log. ^C ends it, and unmounts."""
    import os

    from hyperfs.daemon.__main__ import run

    if sys.stderr.isatty():
        tell(f"daemon of the store {common.store}, process {os.getpid()}: ^C ends it and its mounts")
    return run(str(common.store), None, idle, verbose=common.verbosity > 0, network=common.network)


async def _refuse_busy(client: "DaemonClient") -> None:
    """Raise `MountFailed` when somebody is in a mounted folder, as far as this user may see."""
    import trio

    from hyperfs.errors import MountFailed
    from hyperfs.mount.mountpoint import processes_in

    for mount in await client.mounts():
        found = await trio.to_thread.run_sync(processes_in, mount.mountpoint)
        processes = ", ".join(str(one) for one in found if one != mount.pid)  # that holds the folder it is mounted at
        if processes:
            raise MountFailed(
                f"{mount.mountpoint}: somebody is in it (process {processes}): nothing is stopped; "
                "--force stops all the same"
            )


def _living(places: "Places") -> "list[MountRecord]":
    """Return the mounts whose processes have lived through their daemon."""
    from hyperfs.daemon.process import store_of_mount
    from hyperfs.daemon.state import read_state

    return [one for one in read_state(places.state).mounts if store_of_mount(one.mountpoint) == places.store]


def _print_remembered(places: "Places") -> None:
    from hyperfs.daemon.ports import DEFAULT_PORT
    from hyperfs.daemon.state import offered, read_state

    state = read_state(places.state)
    names = {key: name for name, key in state.names.items()}
    living = _living(places)
    for record in state.mounts:
        mounted = f"{drive_text(record.label, names)} mounted at {record.mountpoint}"
        if record in living:
            click.echo(f"without a daemon:  {mounted}: what is here can be read")
        else:
            click.echo(f"at the next start: {mounted}")
    for key in offered(state):
        where = ", ".join(state.listen) or f"port {state.port or DEFAULT_PORT}"
        pinned = any(one.key == key for one in state.pinned)
        how = f"{'pinned, and ' if pinned else ''}served at {where}"
        click.echo(f"at the next start: {drive_text(key, names)} {how}")


def _print_status(found: "Status", staged: list[str]) -> None:
    from hyperfs.cli.secrets import standing_lines
    from hyperfs.cli.watching import here_texts

    names = {drive.key: drive.name for drive in found.drives if drive.name is not None}
    click.echo(f"daemon     process {found.pid}, hyperfs {found.hyperfs}, store {found.store}")
    click.echo(f"listening  {where_text(found.listening) or 'no'}")
    for line in _network_lines(found.network):
        click.echo(line)
    keys = {drive.key: f"drive {drive_text(drive.key, names)}" for drive in found.drives}
    for line in standing_lines(found.standing, keys):
        click.echo(line)
    for line in staged:
        click.echo(line)
    if found.serving:
        _section("serving")
        drives = [
            (drive_text(drive.key, names), str(drive.version), count_text(drive.peers, "peer"))
            for drive in found.serving
        ]
        print_table(("drive", "version", "with"), drives, right=[1], whole=[0])
    if found.pinned:
        _section("pinned")
        at_work = {drive.key: drive for drive in found.drives}
        pinned = [
            (drive_text(key, names), *here_texts(drive), drive.problem or "")
            for key in found.pinned
            if (drive := at_work.get(key)) is not None
        ]
        print_table(("drive", "version", "here", "of", "problem"), pinned, right=(1, 2, 3), whole=[0])
    if found.network.topics:
        _section("finding")
        topics = [
            (
                drive_text(topic.key, names),
                "no" if topic.port is None else f"port {topic.port}",
                str(topic.found),
                "; ".join(f"{name}: {how}" for name, how in topic.looked.items()),
            )
            for topic in found.network.topics
        ]
        print_table(("drive", "announced", "found", "asked"), topics, right=[2], whole=[0, 1])
    if found.mounts:
        _section("mounted")
        mounts = [
            (mount.mountpoint, drive_text(mount.label, names), _mount_text(mount), str(mount.pid or ""))
            for mount in found.mounts
        ]
        print_table(("folder", "drive", "state", "process"), mounts, right=[3], whole=[1])
    if found.peers:
        _section("peers")
        peers = [
            (
                peer.name,
                duration_text(peer.connected_seconds),
                f"{size_text(int(peer.download_rate))}/s",
                f"{size_text(int(peer.upload_rate))}/s",
                size_text(peer.downloaded_bytes),
                size_text(peer.uploaded_bytes),
                str(peer.in_flight),
            )
            for peer in found.peers
        ]
        headings = ("peer", "since", "down", "up", "received", "sent", "asked")
        print_table(headings, peers, right=range(1, 7))
    connected = {peer.name for peer in found.peers}
    for address in found.dialling:
        if address not in connected:
            click.echo(f"trying     {address}")
    for drive in found.drives:
        if drive.in_flight:
            click.echo(f"fetching   {drive_text(drive.key, names)}: from {count_text(drive.peers, 'peer')}")


_SEEN = {
    "unknown": "seen by nobody yet",
    "none": "reached at {}",
    "fixed": "reached at {} through a NAT",
    "varying": "behind a NAT that few can reach through",
}


def _network_lines(network: "NetworkTold") -> list[str]:
    """Say by what peers are found, and how we are."""
    if not network.settings.dht:
        dht = "off"
    elif "DHT" in network.problems:
        dht = network.problems["DHT"]
    elif network.node is None:
        dht = "not needed yet"
    else:
        node = network.node
        if node.nodes:
            known = f"{count_text(node.nodes, 'node')} known"
        else:
            known = f"none of {', '.join(network.bootstrap)} answers" if node.joined else "joining"
        seen = _SEEN[node.nat].format(node.seen_as)
        dht = f"{known}; UDP port {node.port}, {seen}; {'persistent' if node.persistent else 'ephemeral'}"
    near = ", ".join(network.interfaces) or "no network"
    limits = {"up": network.settings.limit_up, "down": network.settings.limit_down}
    limited = [f"{size_text(rate)}/s {way}" for way, rate in limits.items() if rate]
    return [
        f"DHT        {dht}",
        f"neighbours {network.problems.get('local network', f'asked from {near}') if network.settings.mdns else 'off'}",
        *([f"limited to {', '.join(limited)}"] if limited else []),
    ]


def _mount_text(mount: "MountTold") -> str:
    if mount.state != "mounted":
        return str(mount.error or mount.state)
    return "writable" if mount.writable else "read-only"


def _section(name: str) -> None:
    if sys.stdout.isatty():
        click.echo()
    else:
        click.echo(name)
