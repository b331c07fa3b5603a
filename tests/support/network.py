"""A network on one machine: hosts on a switch, each a network namespace, and homes behind routers that translate.

The rule: whatever happens, the namespaces are gone afterwards, and all that was in them. Needs root and nftables.
"""

import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum

_DHT_PORT = 49737
_SWITCH = "switch"
_UPLINK = "uplink"
_ROUTER = """
table ip home {{
    chain outward {{
        type nat hook postrouting priority 100;
        oifname "uplink" masquerade {mapping}
    }}
    chain inward {{
        type nat hook prerouting priority -100;
        {inward}
    }}
    chain through {{
        type filter hook forward priority 0; policy accept;
        iifname "uplink" ct state new ct status & dnat == 0 drop
    }}
    chain here {{
        type filter hook input priority 0; policy accept;
        iifname "uplink" ct state new drop
    }}
}}
"""


class Nat(Enum):
    """What a home's router does with UDP. TCP comes in from nowhere."""

    FULL_CONE = "full cone"
    """One port for each of a host's, at which anybody reaches it; the home has one host."""
    PORT_RESTRICTED = "port restricted"
    """One port for each of a host's, at which he reaches it whose address and port it has sent to: Linux's default."""
    SYMMETRIC = "symmetric"
    """Another port for each address and port that is sent to."""

    def rules(self) -> str:
        """Return the router's rules, for nft."""
        inward = 'iifname "uplink" meta l4proto udp dnat to 192.168.1.2' if self is Nat.FULL_CONE else ""
        mapping = "random,fully-random" if self is Nat.SYMMETRIC else ""
        return _ROUTER.format(mapping=mapping, inward=inward)


class NetworkHost:
    """One namespace, and its ``addresses`` there."""

    def __init__(self, name: str, addresses: Sequence[str]) -> None:
        self.name = name
        self.addresses = tuple(addresses)
        self.wrapper = ("nsenter", f"--net=/run/netns/{name}")
        """What a command is run with to run on this host (`ip netns exec` would hide its mounts from all others)."""

    @property
    def address(self) -> str:
        """The first address."""
        return self.addresses[0]


class Home:
    """Hosts with private addresses behind a router that shows all of them at its own, ``address``.

    What comes in to which port, `Nat` says.
    """

    def __init__(self, network: "Network", router: NetworkHost) -> None:
        self.address = router.address
        self._network = network
        self._router = router
        self._hosts = 0

    def host(self, count: int = 1) -> NetworkHost:
        """Add a host with ``count`` addresses."""
        first = 2 + self._hosts
        self._hosts += count
        host = self._network.namespace([f"192.168.1.{number}" for number in range(first, first + count)])
        self._network.plug(host, self._router, prefix=24)
        _ip(host.name, "route add default via 192.168.1.1")
        return host


class Network:
    """A switch. Hosts have public addresses there, all of which reach each other. Made by `network`."""

    def __init__(self, number: str) -> None:
        self.names: list[str] = []
        self._number = number
        self._addresses = 0
        self._plugs = 0
        self._switch: NetworkHost | None = None

    def host(self, count: int = 1) -> NetworkHost:
        """Add a host with ``count`` public addresses."""
        host = self.namespace([f"11.0.0.{self._addresses + number}" for number in range(1, count + 1)])
        self._addresses += count
        if self._switch is None:
            self._switch = self.namespace([])
            _add_bridge(self._switch)
        self.plug(host, self._switch, prefix=8)
        _ip(host.name, f"route add default dev {_UPLINK}")
        return host

    def home(self, nat: Nat = Nat.PORT_RESTRICTED) -> Home:
        """Add a router with a public address, behind which hosts can be."""
        router = self.host()
        _add_bridge(router)
        _ip(router.name, f"address add 192.168.1.1/24 dev {_SWITCH}")
        _run([*router.wrapper, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward && nft -f -"], nat.rules())
        return Home(self, router)

    def namespace(self, addresses: Sequence[str]) -> NetworkHost:
        """Make a namespace that is joined to nothing yet."""
        host = NetworkHost(f"hyperfs-{self._number}-{len(self.names)}", addresses)
        self.names.append(host.name)
        _run(["ip", "netns", "add", host.name])
        return host

    def cable(self, first: NetworkHost, second: NetworkHost) -> tuple[str, str]:
        """Join two hosts by a cable of their own; return their addresses there."""
        self._plugs += 1
        device = f"cable{self._plugs}"
        addresses = f"12.0.{self._plugs}.1", f"12.0.{self._plugs}.2"
        _ip(first.name, f"link add {device} type veth peer name {device} netns {second.name}")
        for host, address in zip((first, second), addresses, strict=True):
            _ip(host.name, "link set lo up", f"address add {address}/24 dev {device}", f"link set {device} up")
        return addresses

    def give(self, host: NetworkHost, address: str) -> None:
        """Give a host that is plugged in one more address, with its prefix."""
        _ip(host.name, f"address add {address} dev {_UPLINK}")

    def plug(self, host: NetworkHost, switch: NetworkHost, *, prefix: int) -> None:
        """Join a host to the switch in another namespace. ``prefix``: how many bits are the network's."""
        self._plugs += 1
        port = f"port{self._plugs}"
        _ip(
            switch.name,
            f"link add {port} type veth peer name {_UPLINK} netns {host.name}",
            f"link set {port} master {_SWITCH} up",
        )
        _ip(
            host.name,
            "link set lo up",
            *(f"address add {address}/{prefix} dev {_UPLINK}" for address in host.addresses),
            f"link set {_UPLINK} up",
        )


@contextmanager
def network() -> Iterator[Network]:
    """Make a switch, to which hosts are plugged in as they are asked for."""
    number = secrets.token_hex(4)  # a process id is not enough: tests run in process namespaces of their own
    made = Network(number)
    try:
        yield made
    finally:
        for name in made.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def first_node(network: Network) -> Iterator[str]:
    """Run ``hyperfs dht`` on a host of its own; yield where it answers."""
    host = network.host()
    address = f"{host.address}:{_DHT_PORT}"
    command = [*host.wrapper, sys.executable, "-m", "hyperfs.cli.main", "dht", "--listen", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert address in process.stdout.readline()
            yield address
        finally:
            process.kill()


def _add_bridge(host: NetworkHost) -> None:
    _ip(host.name, f"link add {_SWITCH} type bridge", f"link set {_SWITCH} up")


def _ip(namespace: str, *lines: str) -> None:
    _run(["ip", "-n", namespace, "-batch", "-"], "".join(f"{line}\n" for line in lines))


def _run(command: Sequence[str], stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{stdin}"
