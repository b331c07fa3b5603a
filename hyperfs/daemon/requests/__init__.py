"""What can be asked of the daemon, and what it answers and tells: one definition for both ends.

The rule: nothing else goes through the control socket. A `Call` names its method, the answer's type, and whether it may
be asked again of the next daemon when the first went away before it had answered.
"""

from typing import Any, Final

from hyperfs.daemon.answers import Head
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import from_plain
from hyperfs.daemon.requests.content import AppendContent as AppendContent
from hyperfs.daemon.requests.content import BlocksInUse as BlocksInUse
from hyperfs.daemon.requests.content import ClearContent as ClearContent
from hyperfs.daemon.requests.content import GetCache as GetCache
from hyperfs.daemon.requests.content import GiveBackContent as GiveBackContent
from hyperfs.daemon.requests.content import LeaseContent as LeaseContent
from hyperfs.daemon.requests.content import LimitCache as LimitCache
from hyperfs.daemon.requests.content import ReleaseContent as ReleaseContent
from hyperfs.daemon.requests.cores import Audit as Audit
from hyperfs.daemon.requests.cores import Fetch as Fetch
from hyperfs.daemon.requests.cores import GetHead as GetHead
from hyperfs.daemon.requests.cores import LeaveCore as LeaveCore
from hyperfs.daemon.requests.cores import OpenCore as OpenCore
from hyperfs.daemon.requests.cores import Prefetch as Prefetch
from hyperfs.daemon.requests.cores import Seek as Seek
from hyperfs.daemon.requests.cores import Update as Update
from hyperfs.daemon.requests.drives import AcceptFork as AcceptFork
from hyperfs.daemon.requests.drives import AdoptDrive as AdoptDrive
from hyperfs.daemon.requests.drives import Commit as Commit
from hyperfs.daemon.requests.drives import CreateDrive as CreateDrive
from hyperfs.daemon.requests.drives import Gather as Gather
from hyperfs.daemon.requests.drives import GetSecrets as GetSecrets
from hyperfs.daemon.requests.drives import GetWriterStates as GetWriterStates
from hyperfs.daemon.requests.drives import ListDrives as ListDrives
from hyperfs.daemon.requests.drives import MakeWay as MakeWay
from hyperfs.daemon.requests.drives import NameDrive as NameDrive
from hyperfs.daemon.requests.drives import PrepareToWrite as PrepareToWrite
from hyperfs.daemon.requests.drives import RemoveDrive as RemoveDrive
from hyperfs.daemon.requests.drives import SentOperation as SentOperation
from hyperfs.daemon.requests.drives import SyncDrive as SyncDrive
from hyperfs.daemon.requests.mounts import AttachMount as AttachMount
from hyperfs.daemon.requests.mounts import Link as Link
from hyperfs.daemon.requests.mounts import LinkInMount as LinkInMount
from hyperfs.daemon.requests.mounts import ListMounts as ListMounts
from hyperfs.daemon.requests.mounts import MountDrive as MountDrive
from hyperfs.daemon.requests.mounts import MountEnds as MountEnds
from hyperfs.daemon.requests.mounts import MountLinked as MountLinked
from hyperfs.daemon.requests.mounts import MountLives as MountLives
from hyperfs.daemon.requests.mounts import MountReady as MountReady
from hyperfs.daemon.requests.mounts import MountUses as MountUses
from hyperfs.daemon.requests.mounts import Unmount as Unmount
from hyperfs.daemon.requests.mounts import WaitUnmounted as WaitUnmounted
from hyperfs.daemon.requests.mounts import WhichInUse as WhichInUse
from hyperfs.daemon.requests.peers import AddPeers as AddPeers
from hyperfs.daemon.requests.peers import ChangeNetwork as ChangeNetwork
from hyperfs.daemon.requests.peers import CountPeers as CountPeers
from hyperfs.daemon.requests.peers import Listen as Listen
from hyperfs.daemon.requests.peers import Pin as Pin
from hyperfs.daemon.requests.peers import RemovePeers as RemovePeers
from hyperfs.daemon.requests.peers import Serve as Serve
from hyperfs.daemon.requests.peers import Unlisten as Unlisten
from hyperfs.daemon.requests.peers import Unpin as Unpin
from hyperfs.daemon.requests.peers import Unserve as Unserve
from hyperfs.daemon.requests.peers import UsePeers as UsePeers
from hyperfs.daemon.requests.process import GetStatus as GetStatus
from hyperfs.daemon.requests.process import Stop as Stop
from hyperfs.errors import DaemonError, EncodingError

CALLS: Final[dict[str, type[Call[Any]]]] = {
    kind.method: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Call) and kind is not Call
}


def decode_call(method: str, arguments: object) -> Call[Any]:
    """Return what is asked.

    Raises:
        DaemonError: nothing of that name can be asked.
        EncodingError: a field is missing, unknown, or of another type.
    """
    kind = CALLS.get(method)
    if kind is None:
        raise DaemonError(
            f"the daemon does not know what {method!r:.80} means: `hyperfs stop` ends one of another version"
        )
    return from_plain(kind, arguments)


News = Head | WhichInUse | Link

_NEWS: Final[dict[str, type[News]]] = {kind.__name__: kind for kind in (Head, WhichInUse, Link)}


def decode_news(name: str, arguments: object) -> News:
    """Return what is told. Raises `EncodingError`."""
    if name not in _NEWS:
        raise EncodingError(f"the daemon tells of {name!r:.80}, which is unknown")
    news = from_plain(_NEWS[name], arguments)
    assert isinstance(news, Head | WhichInUse | Link)
    return news
