"""Where a core that a program opened has its missing blocks from: the peers that it is replicated with.

The rule: what is asked for waits until somebody brings it, however long nobody is there; whoever asks has the deadline.
"""

from collections.abc import Sequence

from hyperfs.core.reader import CoreReader, Hint, Priority
from hyperfs.errors import Closed, short
from hyperfs.replication.exchange import Exchange


class PeerSource:
    """The `hyperfs.core.reader.Source` of one core. ``exchange`` is set once the core is open."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        """See `Source.fetch`."""
        await self._exchange_of(core).fetch(ranges, priority)

    def prefetch(self, core: CoreReader, ranges: Sequence[range], hint: Hint | None) -> None:
        """See `Source.prefetch`."""
        if self.exchange is not None:
            self.exchange.prefetch(ranges, Priority.AHEAD)

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        """See `Source.seek`."""
        await self._exchange_of(core).seeks.seek(byte_offset, blocks)

    async def update(self, core: CoreReader) -> None:
        """See `Source.update`."""
        await self._exchange_of(core).heads.update()

    def _exchange_of(self, core: CoreReader) -> Exchange:
        if self.exchange is None:
            raise Closed(f"core {short(core.key)} is closed")
        return self.exchange
