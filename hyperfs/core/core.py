"""A core: an append-only list of blocks with its Merkle tree, signatures and bitfield."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

from hyperfs.core.proofs import Proof, Received
from hyperfs.core.reader import Hint, Priority, Run, Source
from hyperfs.crypto import KeyPair
from hyperfs.storage import Directory


class CoreListener(Protocol):
    """Whoever wants to hear what happens to a core. Called inline: must be quick, and must not raise."""

    def extended(self, core: "Core", old_length: int, new_length: int) -> None:
        """The verified head moved."""

    def stored(self, core: "Core", start: int, end: int, origin: object) -> None:
        """Blocks [start, end) are here now; ``origin`` is what `Core.store` was given, None for our own."""

    def cleared(self, core: "Core", start: int, end: int) -> None:
        """Blocks [start, end) are no longer here."""

    def durable(self, core: "Core", length: int) -> None:
        """What we appended up to ``length`` is on disk and may be announced."""


class Core:
    """The owner's core: implements `CoreReader` over files it alone writes. Made by `Core.open`."""

    key: bytes
    discovery_key: bytes
    writable: bool
    length: int
    byte_length: int
    durable_length: int
    source: Source | None

    @classmethod
    async def open(
        cls,
        directory: Directory,
        *,
        key: bytes | None = None,
        key_pair: KeyPair | None = None,
        source: Source | None = None,
        shared_map_path: Path | None = None,
    ) -> Self:
        """Open or create; a new one needs a key (reader) or key pair. Raises StoreLocked, DamagedStore."""
        raise NotImplementedError

    def has(self, start: int, end: int) -> bool:
        raise NotImplementedError

    def count(self, start: int, end: int) -> int:
        raise NotImplementedError

    def get_local(self, index: int) -> bytes | None:
        raise NotImplementedError

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        raise NotImplementedError

    async def fetch(
        self, ranges: Sequence[range], *, priority: Priority = Priority.URGENT, hint: Hint | None = None
    ) -> None:
        raise NotImplementedError

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        raise NotImplementedError

    async def ahead(self, run: Run, position: int, size: int) -> None:
        raise NotImplementedError

    async def update(self) -> None:
        raise NotImplementedError

    async def wait_longer(self, length: int) -> None:
        raise NotImplementedError

    async def append(self, blocks: Sequence[bytes], *, expected_length: int | None = None) -> int:
        """Append and return the first block's index. Raises NotWritable, ConflictingLength."""
        raise NotImplementedError

    async def proof(self, index: int, *, digest: int = 0, hash_only: bool = False) -> Proof:
        """Return the proof of block ``index`` for an asker that has ``digest``. Raises BlockNotAvailable."""
        raise NotImplementedError

    def digest(self, index: int) -> int:
        """Return the `nodes` field for a request of block ``index``."""
        raise NotImplementedError

    async def store(self, items: Sequence[Received], *, origin: object) -> None:
        """Verify and write what peers sent, in order. Raises InvalidProof, Fork; items before the bad one are kept."""
        raise NotImplementedError

    def seek_local(self, byte_offset: int) -> tuple[int, int] | None:
        """Return (block index, offset within it) of ``byte_offset``, or None when the tree here does not tell."""
        raise NotImplementedError

    def raw_bits(self, start: int, end: int) -> bytes:
        """Return the block bits [start, end), both multiples of 8, high bit first."""
        raise NotImplementedError

    def missing(self, start: int, end: int) -> Iterator[range]:
        """Yield the ranges of blocks in [start, end) that are not here, ascending."""
        raise NotImplementedError

    def add_listener(self, listener: CoreListener) -> None:
        raise NotImplementedError

    def remove_listener(self, listener: CoreListener) -> None:
        raise NotImplementedError

    async def clear(self, start: int, end: int) -> None:
        """Forget blocks [start, end) and free their disk space; their tree nodes stay."""
        raise NotImplementedError

    async def sync(self) -> None:
        """Return once everything written before is on disk."""
        raise NotImplementedError

    async def audit(self) -> list[int]:
        """Read all local blocks again; return (and forget) those that do not match the tree."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
