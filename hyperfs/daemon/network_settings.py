"""How a daemon finds peers, and is found: what it is started with, and what may be changed while it runs.

The rule: values alone. Where they come from (options, the environment, files) is for commands to know.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

from hyperfs.daemon.addresses import parse_address
from hyperfs.errors import UsageError

MIN_RATE: Final = 16 << 10
"""The lowest limit, in bytes a second: peers give up whoever is slower."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How a daemon takes part in the network; as it stands here when nobody said anything."""

    dht: bool = True
    """Whether peers are looked for, and drives announced, in the distributed hash table."""
    mdns: bool = True
    """Likewise on the local network, by multicast DNS."""
    bootstrap: tuple[str, ...] = ()
    """The nodes of the DHT (``HOST:PORT``) that one begins with; none: the public network's."""
    port: int | None = None
    """Where to listen by TCP, and by UDP for the DHT; None: at the store's own port, which is kept between starts."""

    limit_up: int = 0
    """How many bytes a second are sent to all peers together; 0: as many as go."""
    limit_down: int = 0
    """Likewise received."""

    def check(self) -> None:
        """Raise `UsageError` for a port, an address or a rate that is none."""
        for rate in (self.limit_up, self.limit_down):
            if rate and rate < MIN_RATE:
                raise UsageError(f"{rate} bytes a second are too few: at least {MIN_RATE >> 10}K, or none for no limit")
        if self.port is not None and not 0 < self.port < 1 << 16:
            raise UsageError(f"{self.port} is not a port between 1 and 65535")
        for node in self.bootstrap:
            parse_address(node)


OFFLINE: Final = NetworkSettings(dht=False, mdns=False)
"""Peers are not looked for, and nothing is announced: one connects to those that are named."""


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """What is to be another way in a daemon that runs; None: as it is."""

    dht: bool | None = None
    mdns: bool | None = None
    bootstrap: tuple[str, ...] | None = None
    port: int | None = None
    limit_up: int | None = None
    limit_down: int | None = None

    def of(self, settings: NetworkSettings) -> NetworkSettings:
        """Return ``settings`` with the change made."""
        changed = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(settings, **{name: value for name, value in changed.items() if value is not None})
