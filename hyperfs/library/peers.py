"""The peers of a core as a program sees them: who they are, what they have, what went over and back.

The rule: what a peer says it has is not verified before it is downloaded, and is called so.
"""

from dataclasses import dataclass
from typing import Self

from hyperfs.replication.peer import Peer


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many blocks, and bytes of blocks, came and went."""

    downloaded_blocks: int = 0
    downloaded_bytes: int = 0
    uploaded_blocks: int = 0
    uploaded_bytes: int = 0

    def __add__(self, other: Self) -> "Traffic":
        return Traffic(
            self.downloaded_blocks + other.downloaded_blocks,
            self.downloaded_bytes + other.downloaded_bytes,
            self.uploaded_blocks + other.uploaded_blocks,
            self.uploaded_bytes + other.uploaded_bytes,
        )


class CorePeer:
    """A peer on one core, from its `PeerOpened` to its `PeerGone`: the same object in every event and list."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __repr__(self) -> str:
        return f"<CorePeer {self.name}{'' if self.is_open else ' gone'}>"

    @property
    def is_open(self) -> bool:
        """Whether it is here still."""
        return self._peer.is_open

    @property
    def name(self) -> str:
        """How its connection is called, e.g. ``host:port``."""
        return self._peer.link.name

    @property
    def public_key(self) -> bytes:
        """Its X25519 public key (32 bytes), by which it is known on this connection."""
        key = self._peer.link.remote_key
        assert key is not None  # no channel opens before the handshake is done
        return key

    @property
    def length(self) -> int:
        """How many blocks the core has as this peer claims, unverified; 0 once it is gone."""
        return self._peer.availability.claimed_length

    def has(self, start: int, end: int | None = None) -> bool:
        """Tell whether it claims to have block ``start``, or all blocks of [start, end).

        What it has is known where something was wanted, and of the first 1,048,576 blocks.
        """
        end = start + 1 if end is None else end
        while start < end:
            run = self._peer.availability.next_run(start, end)
            if run is None or run.start > start:
                return False
            start = run.stop
        return True

    @property
    def uploading(self) -> bool:
        """Whether it gives blocks of this core, as it says."""
        return self._peer.remote_uploading

    @property
    def downloading(self) -> bool:
        """Whether it wants blocks of this core, as it says."""
        return self._peer.remote_downloading

    @property
    def extensions(self) -> tuple[str, ...]:
        """The names of the extensions that it understands, as it says."""
        return self._peer.channel.remote_extensions

    async def send_extension(self, name: str, payload: bytes) -> None:
        """Send a message of an extension that the core has registered; see `Extension.send`."""
        await self._peer.link.send_extension(self._peer, name, payload)

    @property
    def stats(self) -> Traffic:
        """What came from it, and went to it, of this core."""
        peer = self._peer
        return Traffic(peer.downloaded_blocks, peer.downloaded_bytes, peer.uploads.blocks, peer.uploads.bytes)
