"""``web``: the drives of the store in a browser."""

import signal
from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, run_with_daemon

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient


@command(
    epilog=examples(
        "hyperfs web                     prints the address to open in a browser",
        "hyperfs web --web-port 9000",
    )
)
@click.option(
    "--web-port",
    metavar="NUMBER",
    type=click.IntRange(0, 65535),
    default=8282,
    show_default=True,
    help="Where browsers find it; 0: where it is free.",
)
@common_options(json=False)
def web(common: Common, web_port: int) -> None:
    """Show the drives of the store in a browser on this machine, until ^C.

    The address that is printed opens them, and is for nobody else: whoever has it can read all drives that are here.
    Each drive has a host name of its own below localhost, so that no page in a drive can reach another one.
    """
    import trio

    from hyperfs.web.server import listen, serve

    listeners = listen(web_port)

    async def run(client: "DaemonClient") -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def until() -> None:
                async for _ in signals:
                    return

            async with trio.open_nursery() as nursery:
                address = await nursery.start(
                    lambda task_status: serve(
                        client,
                        listeners,
                        timeout_seconds=common.timeout_seconds,
                        until=until,
                        task_status=task_status,
                    )
                )
                click.echo(address)

    run_with_daemon(common, run)
