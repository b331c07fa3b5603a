"""``python -m hyperfs.daemon STORE``: the daemon's process, as commands start it and as `hyperfs daemon` runs it.

The rule: whoever waits for the start hears exactly one line, ``null`` or what went wrong, and hears it once the control
socket answers.
"""

import argparse
import gc
import json
import logging
import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

from hyperfs.daemon.network_settings import OFFLINE, NetworkSettings

if TYPE_CHECKING:
    from hyperfs.daemon.places import Places


def main(arguments: list[str] | None = None) -> int:
    """Run a daemon until it is stopped; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hyperfs.daemon")
    parser.add_argument("store")
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--idle-seconds", type=float)
    parser.add_argument("--network", type=_settings, default=OFFLINE)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    if options.detach:
        if os.fork():
            os._exit(0)
        os.setsid()
    return run(options.store, options.ready_fd, options.idle_seconds, verbose=options.verbose, network=options.network)


def run(
    store: str,
    ready_descriptor: int | None,
    idle_seconds: float | None,
    *,
    verbose: bool,
    network: NetworkSettings,
) -> int:
    """Run the daemon of ``store`` in this process; ends after ``idle_seconds`` of idleness if given."""
    gc.disable()  # each look for garbage among what is only being imported takes a tenth of a second, and finds little
    import trio

    import hyperfs.daemon.server  # noqa: F401 - which is all the rest
    from hyperfs.daemon.codec import to_plain
    from hyperfs.daemon.failures import describe
    from hyperfs.daemon.files import raise_file_limit
    from hyperfs.daemon.places import places_of
    from hyperfs.errors import HyperfsError
    from hyperfs.log_rate import log_to_stderr

    gc.enable()
    level = logging.DEBUG if verbose else logging.INFO
    log_to_stderr(level, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    raise_file_limit()
    waiting = _Waiting(ready_descriptor)
    try:
        return trio.run(partial(_serve, places_of(store), network, waiting, idle_seconds))
    except (HyperfsError, OSError) as error:
        logging.getLogger(__name__).error("%s", error)
        waiting.tell(json.dumps(to_plain(describe(error))))
        return 1


def _settings(text: str) -> NetworkSettings:
    from hyperfs.daemon.codec import from_plain

    return from_plain(NetworkSettings, json.loads(text))


async def _serve(places: "Places", network: NetworkSettings, waiting: "_Waiting", idle_seconds: float | None) -> int:
    """Run until told to end; return the exit status, 1 when something that was written to mounts stays staged."""
    import signal

    import trio

    from hyperfs.daemon.log_file import follow_log
    from hyperfs.daemon.server import open_daemon
    from hyperfs.garbage import collect_all_when_idle, collecting_little

    detached = waiting.somebody
    with collecting_little(), trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with open_daemon(places, network) as daemon, trio.open_nursery() as nursery:

            async def stop_at_signal() -> None:
                async for number in signals:
                    if number == signal.SIGHUP and detached:
                        continue  # started by a command in a terminal that is gone now
                    daemon.stop()
                    return

            nursery.start_soon(collect_all_when_idle)
            nursery.start_soon(partial(follow_log, places.log, keeps_short=True))
            nursery.start_soon(stop_at_signal)
            if idle_seconds is not None:
                nursery.start_soon(daemon.stop_when_idle, idle_seconds)
            waiting.tell("null")
            _notify_service_manager("READY=1")
            await daemon.wait_stop()
            _notify_service_manager("STOPPING=1")
            nursery.start_soon(_ask_for_time)
            left = await daemon.supervisor.end_all()
            nursery.cancel_scope.cancel()
    return 1 if left else 0


async def _ask_for_time() -> None:
    """Keep the service manager from killing us while mounts commit; one that is silent is killed by ourselves."""
    import trio

    while True:
        _notify_service_manager("EXTEND_TIMEOUT_USEC=60000000")
        await trio.sleep(10)


class _Waiting:
    """Whoever started this process and waits to hear of it; may be nobody, and may be gone."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    @property
    def somebody(self) -> bool:
        return self._descriptor is not None

    def tell(self, line: str) -> None:
        """Write the one line; a second one is not written."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.write(descriptor, line.encode() + b"\n")
            except OSError as error:
                logging.getLogger(__name__).info("nobody waits for the start any more: %s", error)
            os.close(descriptor)


def _notify_service_manager(word: str) -> None:
    """Tell systemd, when it asks (sd_notify(3)); the variable is not passed on to mounts."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(word.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            logging.getLogger(__name__).warning("cannot notify the service manager: %s", error)


if __name__ == "__main__":
    sys.exit(main())
