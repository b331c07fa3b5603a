"""``create``, ``serve``, ``unserve``, ``peer``: what others get from us, and whom we know."""

from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command, group
from hyperfs.cli.common import (
    Common,
    before_commands,
    common_options,
    examples,
    run_with_daemon,
    run_with_running_daemon,
)
from hyperfs.cli.kinds import DRIVE, PEER
from hyperfs.cli.output import print_json, where_text

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.keys import DriveAddress

DEFAULT_PORT = 3282


@command(epilog=examples("hyperfs create", "KEY=$(hyperfs create); hyperfs import ./photos $KEY"))
@common_options(network=False)
def create(common: Common) -> None:
    """Make a new, empty drive and print its key. Its secret key stays in the store: only you can change it."""

    async def run(client: "DaemonClient") -> bytes:
        return await client.create_drive()

    key = run_with_daemon(common, run, begins_store=True)
    if common.json:
        print_json({"key": key.hex(), "version": 1})
    else:
        click.echo(key.hex())


@command(
    epilog=examples(
        "hyperfs serve KEY                            at any address, port 3282",
        "hyperfs serve KEY --listen 192.0.2.7:4000",
        "hyperfs serve KEY --peer host:3282           connect to somebody, too",
    )
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    multiple=True,
    type=PEER,
    help="Accept peers here, from now on and for all drives: see `hyperfs listen`. Port 0 is any free one. Can be "
    f"given several times.  [default: all addresses, at port {DEFAULT_PORT} or another that is free and kept]",
)
@common_options()
@click.argument("address", metavar="KEY", type=DRIVE)
def serve(common: Common, address: "DriveAddress", listen: tuple[str, ...]) -> None:
    """Offer a drive to peers, with the drives mounted inside it, until `hyperfs unserve`, also after a restart.

    A drive of yours is offered whole; of somebody else's, what is here. It is announced, so that whoever has the key
    finds it, and nobody who has not: peers need the key to get anything.
    """

    async def run(client: "DaemonClient") -> tuple[str, ...]:
        from hyperfs.cli.drives import open_drive

        await open_drive(client, common, address)
        return await client.serve(address.key, listen=listen, peers=common.peers)

    listening = run_with_daemon(common, run, begins_store=True)
    if common.json:
        print_json({"key": address.key.hex(), "listening": listening})
    else:
        click.echo(f"serving {address.key.hex()} at {where_text(listening)}")


@command(
    epilog=examples(
        "hyperfs listen                             where peers are accepted",
        "hyperfs listen 192.0.2.7:4000              there, too, from now on",
        "hyperfs listen --remove 192.0.2.7:4000     there no more",
    )
)
@click.option("--remove", is_flag=True, help="Accept nobody there any more; who is connected stays.")
@common_options(network=False)
@click.argument("addresses", metavar="[HOST:PORT...]", nargs=-1, type=PEER)
def listen(common: Common, addresses: tuple[str, ...], remove: bool) -> None:
    """Show at which addresses the daemon accepts peers, for all drives; accept them at others; take some back.

    Those that are chosen are so until they are taken back, or no drive is served any more. Without any it is all
    addresses of the machine, IPv4 and IPv6, at a port of the store's own, as long as a drive is served or announced.
    """
    if remove and not addresses:
        raise click.UsageError("say which address to take back")

    async def change(client: "DaemonClient") -> tuple[str, ...]:
        from hyperfs.daemon.requests import Listen, Unlisten

        return await client.request(Unlisten(addresses) if remove else Listen(addresses))

    async def look(client: "DaemonClient") -> tuple[str, ...]:
        return (await client.status()).listening

    found = run_with_daemon(common, change) if addresses else run_with_running_daemon(common, look)
    if found is None:
        from hyperfs.daemon.places import Places
        from hyperfs.daemon.state import read_state

        found = read_state(Places(common.store.expanduser().resolve()).state).listen
    if common.json:
        print_json({"listening": found})
    else:
        for address in found:
            click.echo(address)


@command(epilog=examples("hyperfs unserve KEY"))
@common_options(json=False, network=False)
@click.argument("address", metavar="KEY", type=DRIVE)
def unserve(common: Common, address: "DriveAddress") -> None:
    """Offer a drive no more. What peers have, they keep."""

    async def run(client: "DaemonClient") -> None:
        await client.unserve(address.key)

    run_with_daemon(common, run)


@group(epilog=examples("hyperfs peer add host:3282", "hyperfs peer list", "hyperfs peer remove host:3282"))
@before_commands
def peer() -> None:
    """Remember peers to connect to, for all drives, whenever the daemon runs.

    A peer that is named with --peer is connected to only for the sake of that command, mount or served drive.
    """


@peer.command("add", epilog=examples("hyperfs peer add host:3282"))
@common_options(json=False, network=False)
@click.argument("addresses", metavar="HOST:PORT...", nargs=-1, required=True, type=PEER)
def peer_add(common: Common, addresses: tuple[str, ...]) -> None:
    """Connect to these peers from now on."""

    async def run(client: "DaemonClient") -> None:
        await client.remember_peers(addresses)

    run_with_daemon(common, run, begins_store=True)


@peer.command("remove", epilog=examples("hyperfs peer remove host:3282"))
@common_options(json=False, network=False)
@click.argument("addresses", metavar="HOST:PORT...", nargs=-1, required=True, type=PEER)
def peer_remove(common: Common, addresses: tuple[str, ...]) -> None:
    """Forget these peers."""

    async def run(client: "DaemonClient") -> None:
        await client.forget_peers(addresses)

    run_with_daemon(common, run)


@peer.command("list", epilog=examples("hyperfs peer list --json"))
@common_options(network=False)
def peer_list(common: Common) -> None:
    """List the remembered peers."""

    async def run(client: "DaemonClient") -> list[str]:
        return list((await client.status()).remembered_peers)

    peers = run_with_running_daemon(common, run)
    if peers is None:
        from hyperfs.daemon.places import Places
        from hyperfs.daemon.state import read_state

        peers = list(read_state(Places(common.store.expanduser().resolve()).state).peers)
    if common.json:
        print_json({"peers": peers})
    else:
        for address in peers:
            click.echo(address)
