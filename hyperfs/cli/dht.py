"""``dht``: a node of the table in which peers find each other, for a network of one's own."""

from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, set_up_logging
from hyperfs.cli.kinds import PEER

if TYPE_CHECKING:
    from hyperfs.swarm.dht.service import DhtService


@command(
    epilog=examples(
        "hyperfs dht                                      the first node",
        "hyperfs dht --listen 192.0.2.7:4000",
        "hyperfs dht --bootstrap first.example.org:49737  one more",
    )
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=PEER,
    default="0.0.0.0:49737",
    show_default=True,
    help="Answer here, by UDP over IPv4; port 0 is any free one.",
)
@click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    multiple=True,
    type=PEER,
    help="Join the network that this node is of. Can be given several times.  [default: begin a network]",
)
@common_options(json=False, network=False)
def dht(common: Common, listen: str, bootstrap: tuple[str, ...]) -> None:
    """Run a node of a distributed hash table, by which peers find each other, until ^C.

    Others begin with it when they are given its address: `hyperfs mount --bootstrap HOST:PORT …`. It needs no store,
    and keeps nothing on disk.
    """
    import signal

    import trio

    from hyperfs.daemon.addresses import format_address, parse_address
    from hyperfs.swarm.dht.service import open_dht

    set_up_logging(common)
    known = [parse_address(node) for node in bootstrap]

    async def join(service: "DhtService") -> None:
        if known and not await service.join():
            click.echo("nobody answered there yet; it is tried again", err=True)

    async def run() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with (
                open_dht(*parse_address(listen), bootstrap=known, ephemeral=False) as service,
                trio.open_nursery() as nursery,
            ):
                click.echo(f"a node of the DHT answers at {format_address(*service.address)}")
                nursery.start_soon(join, service)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    return

    trio.run(run)
