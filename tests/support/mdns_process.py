"""``python -m tests.support.mdns_process TOPIC PORT LOOKS``: announce a topic, and look for it, by multicast DNS.

PORT 0 does not announce, LOOKS 0 does not look.

Prints ``ready``, then a line ``HOST:PORT`` for each peer that is found, until its standard input ends.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE, Popen

import trio

from hyperfs.swarm.mdns.neighbours import Neighbour
from hyperfs.swarm.mdns.service import open_mdns


class MdnsProcess:
    """A running process; made by `mdns_process`."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process

    def next_found(self) -> str:
        """Return the next peer that it finds, as HOST:PORT. Waits."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def mdns_process(
    topic: bytes, port: int = 0, *, looks: bool = True, wrapper: Sequence[str] = ()
) -> Iterator[MdnsProcess]:
    """Run one, with the command ``wrapper``, until the block ends; it has joined when this yields."""
    arguments = [topic.hex(), str(port), str(int(looks))]
    command = [*wrapper, sys.executable, "-m", "tests.support.mdns_process", *arguments]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        running = MdnsProcess(process)
        try:
            assert running.next_found() == "ready"
            yield running
        finally:
            process.kill()


async def main(topic: bytes, port: int, looks: bool) -> None:
    def tell(neighbour: Neighbour) -> None:
        print(neighbour.address, flush=True)

    async with open_mdns() as mdns:
        mdns.join(topic, port=port or None, found=tell if looks else None)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main, bytes.fromhex(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1")
