"""Which drives' peers are looked for, and which drives are announced.

The rules: a topic is the discovery key of a drive's metadata; the cores with the content are not spoken of. Others'
drives are looked for while anybody here uses them, and announced while they are mounted, unless that was not wanted;
what is served is both, and of our own drives nothing else is.
"""

from typing import Final

from hyperfs.core.core import Core
from hyperfs.daemon.network import Network
from hyperfs.daemon.registry import CoreRegistry
from hyperfs.daemon.state import State, offered
from hyperfs.swarm.topics import TopicStatus

MAX_LOOKED: Final = 512
"""How many drives are looked for at one time, but for those that are served or mounted: the owner of a drive chooses
how many others one meets in it."""


class Finding:
    """Keeps what the swarm looks for and announces in step with the state, and with the cores that are in use."""

    def __init__(self, network: Network, registry: CoreRegistry) -> None:
        self._network = network
        self._drives: dict[bytes, Core] = {}
        self._looked: set[bytes] = set()
        self._served: frozenset[str] = frozenset()
        self._offered: frozenset[str] = frozenset()
        """Of the mounted drives, those that may be announced."""
        self._listens_elsewhere = False
        self._registry = registry
        registry.watch(self)

    def follow(self, state: State) -> None:
        """Look and announce as ``state`` says."""
        self._served = frozenset(offered(state))
        self._offered = frozenset(mount.key for mount in state.mounts if mount.options.announces)
        self._listens_elsewhere = bool(state.listen)
        self.look_again()

    def look_again(self) -> None:
        """Do what the settings of the network say now."""
        for core in self._drives.values():
            self._follow(core)
        self._listen_if_needed()

    def words(self, core: Core) -> str:
        """Say where peers of ``core``, a drive's metadata or content, were looked for; empty when nowhere."""
        drive = self._registry.drive_of(core) or core
        status = self._network.swarm.topics.get(drive.discovery_key)
        return "; ".join(f"{name}: {how}" for name, how in status.looked.items()) if status is not None else ""

    def drives(self) -> list[tuple[bytes, TopicStatus]]:
        """Return the keys of the drives that are looked for, or announced, and how."""
        topics = self._network.swarm.topics
        return [
            (core.key, topics[core.discovery_key]) for core in self._drives.values() if core.discovery_key in topics
        ]

    def is_offered(self, core: Core) -> bool:
        """Tell whether others may come because ``core``, a drive's metadata or content, is announced, or served."""
        drive = self._registry.drive_of(core) or core
        return drive.key.hex() in self._served or (drive.key in self._drives and self._announces(drive))

    # What the registry tells

    def came(self, core: Core) -> None:
        """See `Watcher`."""
        if not self._registry.is_content(core):
            self._drives[core.key] = core
            self._follow(core)
            self._listen_if_needed()

    def changed(self, core: Core) -> None:
        """See `Watcher`."""
        self.went(core)
        self.came(core)

    def went(self, core: Core) -> None:
        """See `Watcher`."""
        if self._drives.pop(core.key, None) is not None:
            self._leave(core)
            self._listen_if_needed()

    def _announces(self, core: Core) -> bool:
        key = core.key.hex()
        return self._network.finds and (key in self._served or (key in self._offered and not core.writable))

    def _looks(self, core: Core) -> bool:
        key = core.key.hex()
        if not self._network.finds:
            return False
        if key in self._served or (key in self._offered and not core.writable):
            return True
        has_room = len(self._looked) < MAX_LOOKED or core.key in self._looked
        # one of ours of which more was signed elsewhere than is here is somebody's
        return has_room and (not core.writable or core.fork_guard.behind is not None)

    def _follow(self, core: Core) -> None:
        looks, announces = self._looks(core), self._announces(core)
        if looks or announces:
            self._looked.add(core.key)
            self._network.swarm.join(core.discovery_key, looks=looks, announces=announces)
        else:
            self._leave(core)

    def _leave(self, core: Core) -> None:
        self._looked.discard(core.key)
        self._network.swarm.leave(core.discovery_key)

    def _listen_if_needed(self) -> None:
        """Accept peers at the store's own port while something is offered, unless that is done elsewhere."""
        offers = bool(self._served) or any(map(self._announces, self._drives.values()))
        self._network.want_own_port(wanted=offers and not self._listens_elsewhere)
