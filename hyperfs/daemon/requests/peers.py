"""What is asked of the daemon about peers: whom it dials, where it listens, what it offers them."""

from dataclasses import dataclass
from typing import ClassVar

from hyperfs.daemon.answers import PeerCount
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import Key
from hyperfs.daemon.network_settings import NetworkChange, NetworkSettings


@dataclass(frozen=True, slots=True)
class CountPeers(Call[PeerCount]):
    """Return how many peers there are, and how those of core ``key`` were looked for."""

    method: ClassVar = "peers.count"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class UsePeers(Call[None]):
    """Dial these peers (``HOST:PORT``) while the connection lasts."""

    method: ClassVar = "peers.use"
    repeatable: ClassVar = True
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddPeers(Call[None]):
    """Dial these peers now and after each start."""

    method: ClassVar = "peers.add"
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemovePeers(Call[None]):
    """Dial these peers, which were added, no more."""

    method: ClassVar = "peers.remove"
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serve(Call[tuple[str, ...]]):
    """Offer a drive, now and after each start; answered with the addresses at which peers can reach us."""

    method: ClassVar = "serve"
    key: Key
    listen: tuple[str, ...]
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pin(Call[tuple[str, ...]]):
    """Keep all of a drive here, as it grows, and offer it, now and after each start; answered as `Serve`."""

    method: ClassVar = "drive.pin"
    repeatable: ClassVar = True
    key: Key
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unpin(Call[None]):
    """Keep it no more than any other drive."""

    method: ClassVar = "drive.unpin"
    key: Key


@dataclass(frozen=True, slots=True)
class Unserve(Call[None]):
    """Offer a drive no more; with the last one, stop listening."""

    method: ClassVar = "unserve"
    key: Key


@dataclass(frozen=True, slots=True)
class Listen(Call[tuple[str, ...]]):
    """Accept peers at these addresses, too, now and after each start; answered with all that are listened at."""

    method: ClassVar = "listen"
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unlisten(Call[tuple[str, ...]]):
    """Accept nobody any more at these addresses, which were chosen; answered with those that are listened at."""

    method: ClassVar = "unlisten"
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeNetwork(Call[NetworkSettings]):
    """Be in the network another way, until the daemon ends; answered with all settings that are in force then."""

    method: ClassVar = "network.change"
    repeatable: ClassVar = True
    change: NetworkChange
