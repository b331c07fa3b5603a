"""What is asked of the daemon about itself."""

from dataclasses import dataclass
from typing import ClassVar

from hyperfs.daemon.answers import Status
from hyperfs.daemon.call import Call


@dataclass(frozen=True, slots=True)
class GetStatus(Call[Status]):
    """Return everything that there is to know."""

    method: ClassVar = "status"
    repeatable: ClassVar = True


@dataclass(frozen=True, slots=True)
class Stop(Call[tuple[str, ...]]):
    """End the daemon; answered once its mounts have ended, with what stays staged of them, a line each.

    The process itself may not have ended yet when this is answered.
    """

    method: ClassVar = "stop"
