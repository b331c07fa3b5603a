"""Which blocks the mounts' open files lie in, asked of the mounts when something is about to be cleared.

The rule: a mount that does not answer may be reading anything, so then nothing is told, and nothing cleared.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from hyperfs.daemon.requests import News, WhichInUse
from hyperfs.daemon.supervisor import MountState, Supervisor
from hyperfs.errors import DaemonError

ANSWER_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 0.2

Tell = Callable[[News], None]
Ranges = Sequence[range]


class Readers:
    """Owns the questions that are open, and knows how to reach the mounts' processes."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._tell: dict[str, Tell] = {}
        self._answers: dict[int, dict[str, Ranges]] = {}
        self._number = 0
        self._heard = trio.Event()

    def attached(self, mount_id: str, tell: Tell) -> None:
        """A mount's process is reached by ``tell`` from now on."""
        self._tell[mount_id] = tell

    def reached(self, mount_id: str) -> Tell | None:
        """Return what reaches a mount's process, once it has said that it is there."""
        return self._tell.get(mount_id)

    def answered(self, question: int, mount_id: str, ranges: Ranges) -> None:
        """A mount's process answered; too late when nobody waits for it any more."""
        if question in self._answers:
            self._answers[question][mount_id] = ranges
            self._heard.set()

    async def blocks_in_use(self, key: bytes) -> tuple[range, ...]:
        """Return the blocks of core ``key`` that open files of any mount lie in, as ranges.

        Raises `DaemonError` when a mount does not answer within `ANSWER_SECONDS`.
        """
        self._number += 1
        question = self._number
        answers = self._answers[question] = {}
        asked: dict[str, Tell] = {}
        silent: list[str] = []
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                while silent := self._silent(answers):
                    for mount_id in silent:
                        tell = self._tell.get(mount_id)
                        if tell is not None and asked.get(mount_id) is not tell:
                            asked[mount_id] = tell
                            tell(WhichInUse(question, key))
                    self._heard = trio.Event()
                    with trio.move_on_after(_AGAIN_SECONDS):  # one may have ended, or begun anew
                        await self._heard.wait()
        finally:
            del self._answers[question]
        if silent:
            where = self._supervisor.get(silent[0]).record.mountpoint
            raise DaemonError(f"{where}: the mount does not tell which of its files are open; try again later")
        found = {blocks for ranges in answers.values() for blocks in ranges}
        return tuple(sorted(found, key=lambda blocks: (blocks.start, blocks.stop)))

    def _silent(self, answers: dict[str, Ranges]) -> list[str]:
        mounts = self._supervisor.all()
        return [
            mount.record.id for mount in mounts if mount.state is MountState.READY and mount.record.id not in answers
        ]
