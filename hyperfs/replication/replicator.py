"""The cores that are shared with peers, and the connections they are shared over.

The one rule: every core has one exchange (`hyperfs.replication.exchange`) that decides what is asked of whom, and every
stream one link (`hyperfs.replication.link`) that carries it; this module only joins the two.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hyperfs.core.core import Core
    from hyperfs.core.reader import CoreReader, Hint, Priority
    from hyperfs.replication.status import Ending, ReplicationStatus


class Follow(enum.Enum):
    """What is asked for, without anybody reading, when a peer announces blocks past a core's length."""

    NOTHING = "nothing"
    """Nothing: the length grows only as blocks are read (right for content)."""

    LENGTH = "length"
    """The proof of the newest block: the length grows, nothing else is fetched."""

    NEWEST = "newest"
    """The newest block itself (right for metadata: the head of a trie is read at once)."""


class Replicator:
    """Shares cores over any number of connections; the `Source` of those cores.

    ``static_key`` is the seed of this process's X25519 key (32 bytes; random by default), by which peers know us.
    ``patience_seconds``: when no peer had a core for this long, fetches of it fail at once instead of waiting.
    """

    def __init__(self, *, static_key: bytes | None = None, patience_seconds: float = 20.0) -> None: ...

    @property
    def public_key(self) -> bytes:
        """The X25519 public key that peers see."""
        ...

    def add_core(self, core: Core, *, follow: Follow = Follow.LENGTH) -> None:
        """Share ``core``: with new connections, and at once on those that are up. Adding it again changes ``follow``."""

    def remove_core(self, core: Core) -> None:
        """Stop sharing ``core``; its channels are closed and its waiting fetches raise `BlockNotAvailable`."""

    def expect_peers(self) -> None:
        """Start patience anew for every core: somebody is about to connect."""

    def is_banned(self, name: str) -> bool:
        """Tell whether the peer named ``name`` (see `run`) misbehaved lately."""
        ...

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        """See `hyperfs.core.reader.Source.fetch`."""

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        """See `hyperfs.core.reader.Source.seek`."""

    async def update(self, core: CoreReader) -> None:
        """See `hyperfs.core.reader.Source.update`."""

    async def run(self, stream: trio.abc.Stream, *, initiator: bool, name: str) -> Ending:
        """Run one connection over ``stream`` to its end, close the stream, and say why it ended.

        ``initiator`` is the side that dialled. ``name`` is how logs and `status` call the peer (``host:port``). Never
        raises for anything the peer or the network does.
        """
        ...

    async def wait_disconnected(self, remote_key: bytes) -> None:
        """Return once no connection to the peer with this static key is up."""

    def status(self) -> ReplicationStatus:
        """Return what is connected, shared and under way right now."""
        ...
