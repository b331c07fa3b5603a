"""What a user may choose about a mount.

The rule: an option means here what it means for other FUSE file systems.
"""

from dataclasses import dataclass

DEFAULT_FLUSH_SECONDS = 5.0
"""How long after the first change all that was written is committed at the latest."""
NODE_CACHE_BYTES = 8 << 20
"""How much of a drive's trie a mount process should keep in memory: the kernel keeps names and attributes as well."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a drive is shown and how long its readers wait.

    ``uid`` and ``gid``, where given, are the owner and group of every entry. ``umask``, where given, replaces the
    permissions of every entry: they become 0777 less these bits. Without them the drive's own are shown.
    ``allow_other`` lets users other than the mounting one (and root) in; without being root this needs
    ``user_allow_other`` in /etc/fuse.conf. Permissions are checked by the kernel in any case.

    ``confines_links``: a symbolic link of somebody else's drive is shown with a target that cannot lead out of the
    drive which holds it; False shows it as it is stored. Those of one's own drives always are.

    ``timeout_seconds``: a read fails with EIO when none of the blocks it waits for has come for so long.
    ``lookup_timeout_seconds``: the same for names and attributes, shorter since the kernel lets lookups in one
    directory wait for each other; it never exceeds ``timeout_seconds``.
    """

    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    allow_other: bool = False
    confines_links: bool = True
    timeout_seconds: float = 20.0
    lookup_timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name, highest in (("uid", 0xFFFF_FFFE), ("gid", 0xFFFF_FFFE), ("umask", 0o7777)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= highest:
                raise ValueError(f"{name} {value} is not between 0 and {highest}")
        if self.timeout_seconds <= 0 or self.lookup_timeout_seconds <= 0:
            raise ValueError("a time limit of a mount must be more than 0 seconds")
