"""The process that carries packets between two TUN devices, as a `Line` each way: for kernels without netem.

    python -m tests.support.line_process NAME NAME JSON

makes the devices, prints a line once they are there, and carries until stdin ends; JSON are the `Conditions`. The
devices are to be moved into the namespaces that the line joins. It sleeps between rounds, so that packets are taken
many at a time: one at a time they cost three times as much.
"""

import fcntl
import json
import os
import select
import struct
import sys
import time
from contextlib import suppress

from .line import Conditions, Line

_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_LARGEST_PACKET = 65536
_ROUND_SECONDS = 0.0005
"""Packets arrive up to this much late."""
_PACKETS_AT_ONCE = 64
"""Taken from one device before the other has its turn."""
_NICENESS = -15
"""The line is not what is measured: it goes before both ends of it."""


def open_device(name: str) -> int:
    """Make the TUN device ``name``; it is gone when the descriptor is closed."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def carry(first: int, second: int, there: Line, back: Line) -> None:
    """Carry packets between two devices until stdin ends."""
    poll = select.epoll()
    poll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
    idle = select.epoll()
    for descriptor in (sys.stdin.fileno(), first, second):
        idle.register(descriptor, select.EPOLLIN | select.EPOLLHUP)
    now, read, write = time.monotonic, os.read, os.write
    lost = suppress(OSError)  # the other end is down, or its namespace is going: the packet is lost
    ways = ((first, second, there), (second, first, back))
    while not poll.poll(0):
        for source, sink, line in ways:
            put, take = line.put, line.take
            try:
                for _ in range(_PACKETS_AT_ONCE):
                    put(now(), read(source, _LARGEST_PACKET))
            except BlockingIOError:
                pass
            arrived = now()
            while (packet := take(arrived)) is not None:
                with lost:
                    write(sink, packet)
        if there.next_arrival is None and back.next_arrival is None:
            idle.poll()
        else:
            time.sleep(_ROUND_SECONDS)


def main(names: list[str], conditions: Conditions) -> None:
    """Make the devices and carry."""
    devices = [open_device(name) for name in names]
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    print("ready", flush=True)
    there, back = Line(conditions, seed=1), Line(conditions, seed=2)
    carry(*devices, there, back)
    told = {
        "dropped": there.dropped + back.dropped,
        "carried": there.carried + back.carried,
        "cpu": time.process_time(),
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:3], Conditions(**json.loads(sys.argv[3])))
