"""What is told of an entry of a drive: what its bytes are known by, which attributes it shows, and for how long.

The rule: a drive tells of what changes, so what it says may be believed for long; what changes untold, only shortly.
"""

from collections.abc import Mapping

from hyperfs.drive.entry import Entry
from hyperfs.drive.stat import Stat

FOREVER_SECONDS = 10.0 * 365 * 86400
LIVE_SECONDS = 3600.0
"""How long the kernel may keep what a live drive says; it is told of changes, so this is for the worst case."""
CORE_SECONDS = 1.0
"""The same for a bare core that is mounted as a file: it grows without any version of the drive telling."""
USER = "user."
_FOREIGN_NAMESPACES = ("security.", "system.", "trusted.", "hyperfs.")


def content_of(entry: Entry, stat: Stat) -> int:
    """Return a number, not 0, that differs where two versions of a file hold different bytes."""
    return content_number(entry.volume.key, stat)


def content_number(key: bytes, stat: Stat) -> int:
    """Return `content_of` for a file of the drive of ``key``."""
    place = (key, stat.offset, stat.byte_offset, stat.size, stat.mount is None)
    return (hash(place) & 0xFFFF_FFFF_FFFF_FFFF) or 1


def lasting_seconds(entry: Entry) -> float:
    """Return how long the kernel may keep the name and attributes of an entry."""
    if entry.core_size is not None:
        return CORE_SECONDS
    return FOREVER_SECONDS if entry.volume.is_pinned else LIVE_SECONDS


def presented(attributes: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a drive's extended attributes by their name in the file system; one without a namespace is the user's."""
    return {
        name if name.startswith(USER) else USER + name: value
        for name, value in attributes.items()
        if name and not name.startswith(_FOREIGN_NAMESPACES) and "\0" not in name
    }
