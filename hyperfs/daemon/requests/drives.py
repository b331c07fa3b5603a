"""What is asked of the daemon about drives: which there are, and what is changed in them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from hyperfs.daemon.answers import DriveTold, SecretKeys, WriterState
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import Key, Via
from hyperfs.drive.commits import Operation, decode_operation, encode_operation

SentOperation = Annotated[Operation, Via(encode_operation, decode_operation)]


@dataclass(frozen=True, slots=True)
class CreateDrive(Call[Key]):
    """Make a new, empty drive; answered with its key."""

    method: ClassVar = "drive.create"


@dataclass(frozen=True, slots=True)
class ListDrives(Call[tuple[DriveTold, ...]]):
    """Return every drive of which something is here, or that is named, served or mounted."""

    method: ClassVar = "drive.list"
    repeatable: ClassVar = True


@dataclass(frozen=True, slots=True)
class NameDrive(Call[None]):
    """Call a drive ``name`` in this store, or nothing, now and after each start."""

    method: ClassVar = "drive.name"
    key: Key
    name: str | None


@dataclass(frozen=True, slots=True)
class RemoveDrive(Call[int]):
    """Delete what is here of a drive, one of ours only if ``even_ours``; answered with how many bytes that frees."""

    method: ClassVar = "drive.remove"
    key: Key
    even_ours: bool


@dataclass(frozen=True, slots=True)
class Gather(Call[None]):
    """Take in a part of a commit to drive ``key`` that is too large for one message.

    ``gathered`` operations came before it.
    """

    method: ClassVar = "drive.gather"
    key: Key
    operations: tuple[SentOperation, ...]
    gathered: int


@dataclass(frozen=True, slots=True)
class Commit(Call[int]):
    """Change a drive by the ``gathered`` operations and these, in one batch; answered with the version after them."""

    method: ClassVar = "drive.commit"
    key: Key
    operations: tuple[SentOperation, ...]
    gathered: int
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class SyncDrive(Call[None]):
    """Answered once everything that was committed to a drive before is on disk."""

    method: ClassVar = "drive.sync"
    key: Key


@dataclass(frozen=True, slots=True)
class MakeWay(Call[bool]):
    """Give away the reserve, for a commit that a full disk stands in the way of; tells whether there was any."""

    method: ClassVar = "drive.make_way"
    key: Key


@dataclass(frozen=True, slots=True)
class PrepareToWrite(Call[None]):
    """Ask the peers whether they have more of a drive of ours than is here, and fetch it, within a short time."""

    method: ClassVar = "drive.prepare"
    key: Key


@dataclass(frozen=True, slots=True)
class GetWriterStates(Call[tuple[WriterState, ...]]):
    """Return which cores of a drive are behind, or forked."""

    method: ClassVar = "drive.standing"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class AcceptFork(Call[None]):
    """Go on with the history of a drive that is here."""

    method: ClassVar = "drive.accept_fork"
    key: Key


@dataclass(frozen=True, slots=True)
class GetSecrets(Call[SecretKeys]):
    """Return the secret keys of a drive, for the user whose store this is."""

    method: ClassVar = "drive.secrets"
    key: Key


@dataclass(frozen=True, slots=True)
class AdoptDrive(Call[None]):
    """Make a drive writable in this store."""

    method: ClassVar = "drive.adopt"
    secrets: SecretKeys
