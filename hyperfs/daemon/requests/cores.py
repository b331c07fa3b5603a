"""What is asked of the daemon about one core: its head, its blocks."""

from dataclasses import dataclass
from typing import ClassVar

from hyperfs.core.reader import Hint, Priority
from hyperfs.daemon.answers import Audited, Head, OpenedCore
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import Key


@dataclass(frozen=True, slots=True)
class OpenCore(Call[OpenedCore]):
    """Open a core for as long as the connection lasts, and tell of its heads."""

    method: ClassVar = "core.open"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class LeaveCore(Call[None]):
    """Have a core in use no more, until it is asked for again: its heads are not told any more."""

    method: ClassVar = "core.leave"
    key: Key


@dataclass(frozen=True, slots=True)
class GetHead(Call[Head]):
    """Return a core's newest head."""

    method: ClassVar = "core.head"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class Fetch(Call[None]):
    """Bring blocks; answered when they are here."""

    method: ClassVar = "core.fetch"
    repeatable: ClassVar = True
    key: Key
    ranges: tuple[range, ...]
    priority: Priority
    hint: Hint | None = None


@dataclass(frozen=True, slots=True)
class Prefetch(Call[None]):
    """Begin to bring blocks that somebody is likely to want next; answered at once."""

    method: ClassVar = "core.prefetch"
    repeatable: ClassVar = False
    key: Key
    ranges: tuple[range, ...]
    hint: Hint | None = None


@dataclass(frozen=True, slots=True)
class Seek(Call[None]):
    """Bring the block, one of ``blocks``, that holds a byte offset; answered when it is here."""

    method: ClassVar = "core.seek"
    repeatable: ClassVar = True
    key: Key
    byte_offset: int
    blocks: range
    priority: Priority


@dataclass(frozen=True, slots=True)
class Update(Call[Head]):
    """Ask the peers for a newer head; answered with it once they have answered."""

    method: ClassVar = "core.update"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class Audit(Call[Audited]):
    """Read a core's blocks again and forget those that do not match its tree."""

    method: ClassVar = "core.audit"
    key: Key
