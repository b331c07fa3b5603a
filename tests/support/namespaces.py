"""Two hosts on one machine: network namespaces that a cable of virtual Ethernet joins. Needs root.

The rule: whatever happens, the namespaces are gone afterwards, and with them the cable.
"""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


class Host:
    """One namespace, its address, and its end of the cable."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.wrapper = ("nsenter", f"--net=/run/netns/{name}")
        """What a command is run with to run on this host (`ip netns exec` would hide its mounts from all others)."""

    def cut(self) -> None:
        """Pull the cable out."""
        _ip("-n", self.name, "link", "set", "cable", "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("-n", self.name, "link", "set", "cable", "up")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two hosts that reach each other, and nobody else."""
    number = secrets.token_hex(4)  # a process id is not enough: tests run in process namespaces of their own
    hosts = Host(f"hyperfs-{number}-a", "10.77.0.1"), Host(f"hyperfs-{number}-b", "10.77.0.2")
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        first, second = (host.name for host in hosts)
        _ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
        for host in hosts:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", host.name, "link", "set", device, "up")
            _ip("-n", host.name, "route", "add", "224.0.0.0/4", "dev", "cable")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host.name], check=False, stderr=subprocess.DEVNULL)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
