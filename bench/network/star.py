"""Many hosts around one switch, each with an access line of its own: network namespaces, and a process that carries.

    python -m bench.network.star JSON NAME...

is that process: it makes a TUN device of each name, for each `Access` of the list, prints a line once they are there,
and carries until stdin ends; for each line there it tells how many bytes each host has sent. A packet goes up the
access line of who sends it and down that of who is to have it. Needs root.
"""

import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.line import Conditions, Line
from tests.support.line_process import open_device
from tests.support.namespaces import Host

_ROOT = Path(__file__).resolve().parent.parent.parent
_NETWORK = "10.79.0"
_LARGEST_PACKET = 65536
_DESTINATION = slice(16, 20)
"""Where an IPv4 packet says whom it is for."""
_ROUND_SECONDS = 0.001
"""Packets arrive up to this much late, on each line."""
_PACKETS_AT_ONCE = 64
_NICENESS = -15
_MOST_WAITING = "10000"
"""Packets that a device keeps until the line takes them: a burst between two rounds is no loss of the line's."""


@dataclass(frozen=True, slots=True)
class Access:
    """One host's line: bits a second up and down, the seconds of a round trip over it, what waits at either end."""

    up: float
    down: float
    round_trip: float
    queue_bytes: int = 256 << 10


class Switch:
    """The process that carries."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def sent_bytes(self) -> list[int]:
        """Return how much each host's line has carried up so far, in IP packets; what found no room does not count."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told: list[int] = json.loads(self._process.stdout.readline())
        return told


@contextmanager
def star(accesses: Sequence[Access]) -> Iterator[tuple[list[Host], Switch]]:
    """Make a host for each of ``accesses``, at most 250, that reaches all the others, and nobody else."""
    number = secrets.token_hex(3)
    hosts = [Host(f"hyperfs-{number}-{place}", _address(place)) for place in range(len(accesses))]
    devices = [f"st{number}{place}" for place in range(len(accesses))]
    command = [sys.executable, "-m", "bench.network.star", json.dumps([asdict(access) for access in accesses])]
    try:
        for host in hosts:
            _run("ip", "netns", "add", host.name)
            _run("ip", "-n", host.name, "link", "set", "lo", "up")
        with subprocess.Popen(
            [*command, *devices], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline(), "the switch ended before it was ready"
                for host, device in zip(hosts, devices, strict=True):
                    _run("ip", "link", "set", device, "netns", host.name, "name", "cable")
                    _run("ip", "-n", host.name, "link", "set", "cable", "txqueuelen", _MOST_WAITING)
                    _run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", "cable")
                    _run("ip", "-n", host.name, "link", "set", "cable", "up")
                yield hosts, Switch(process)
            finally:
                process.kill()
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host.name], check=False, stderr=subprocess.DEVNULL)


def _address(place: int) -> str:
    return f"{_NETWORK}.{place + 1}"


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


# The process --------------------------------------------------------------------------------------------------------


def _conditions(access: Access, rate: float) -> Conditions:
    return Conditions(access.round_trip / 2, rate, queue_bytes=access.queue_bytes)


def carry(devices: Sequence[int], up: Sequence[Line], down: Sequence[Line]) -> None:
    """Carry packets between the devices until stdin ends; who is at a device is told by its place."""
    poll = select.epoll()
    for descriptor in (sys.stdin.fileno(), *devices):
        poll.register(descriptor, select.EPOLLIN | select.EPOLLHUP)
    places = {descriptor: place for place, descriptor in enumerate(devices)}
    addresses = {bytes(map(int, _address(place).split("."))): place for place in range(len(devices))}
    now, read, write = time.monotonic, os.read, os.write
    lost = suppress(OSError)  # the namespace is going: the packet is lost
    sent = [0] * len(devices)
    busy = False
    while True:
        for descriptor, _ in poll.poll(0 if busy else -1):
            place = places.get(descriptor)
            if place is None:
                if not read(descriptor, _LARGEST_PACKET):
                    return
                print(json.dumps(sent), flush=True)
                continue
            put = up[place].put
            with suppress(BlockingIOError):
                for _ in range(_PACKETS_AT_ONCE):
                    put(now(), read(descriptor, _LARGEST_PACKET))
        busy = False
        arrived = now()
        for place, line in enumerate(up):
            while (packet := line.take(arrived)) is not None:
                sent[place] += len(packet)
                receiver = addresses.get(packet[_DESTINATION])
                if receiver is not None:
                    down[receiver].put(arrived, packet)
            busy = busy or line.next_arrival is not None
        for descriptor, line in zip(devices, down, strict=True):
            while (packet := line.take(arrived)) is not None:
                with lost:
                    write(descriptor, packet)
            busy = busy or line.next_arrival is not None
        if busy:
            time.sleep(_ROUND_SECONDS)


def main(told: str, names: list[str]) -> None:
    """Make the devices and carry."""
    accesses = [Access(**access) for access in json.loads(told)]
    devices = [open_device(name) for name in names]
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    print("ready", flush=True)
    up = [Line(_conditions(access, access.up)) for access in accesses]
    down = [Line(_conditions(access, access.down)) for access in accesses]
    carry(devices, up, down)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
