"""What is asked of the daemon about the content of drives: appending, clearing, how much is kept."""

from dataclasses import dataclass
from typing import ClassVar

from hyperfs.daemon.answers import CacheUse, LeaseGranted
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import Key


@dataclass(frozen=True, slots=True)
class LeaseContent(Call[LeaseGranted]):
    """Be the only one who appends to a drive's content; answered once that is so, until it is released."""

    method: ClassVar = "content.lease"
    key: Key


@dataclass(frozen=True, slots=True)
class AppendContent(Call[None]):
    """Append blocks of these sizes, which lie in a slot. Worked off in the order of arrival."""

    method: ClassVar = "content.append"
    lease: int
    slot: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReleaseContent(Call[None]):
    """Give a lease back; answered once everything sent under it has been appended."""

    method: ClassVar = "content.release"
    lease: int


@dataclass(frozen=True, slots=True)
class GiveBackContent(Call[None]):
    """Forget what was appended under a lease, of it the blocks from ``start`` on, which no commit names."""

    method: ClassVar = "content.give_back"
    lease: int
    start: int


@dataclass(frozen=True, slots=True)
class ClearContent(Call[None]):
    """Forget blocks of a drive's content; of a drive of ours only as it was at ``expected_version``."""

    method: ClassVar = "content.clear"
    key: Key
    ranges: tuple[range, ...]
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class BlocksInUse(Call[tuple[range, ...]]):
    """Return which blocks of a content core the files that are open in mounts lie in."""

    method: ClassVar = "content.in_use"
    key: Key


@dataclass(frozen=True, slots=True)
class GetCache(Call[CacheUse]):
    """Return the cache's limit and what is in it."""

    method: ClassVar = "cache.show"
    repeatable: ClassVar = True


@dataclass(frozen=True, slots=True)
class LimitCache(Call[None]):
    """Keep at most ``limit`` bytes of others' content, now and after each start; answered when that is so."""

    method: ClassVar = "cache.limit"
    limit: int | None
