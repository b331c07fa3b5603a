"""Mounting a drive in one that is mounted to be written to: asked of the mount that does.

The rule: what a mount has staged and what is linked come into the drive through one hand, so that neither is laid over
the other unseen.
"""

from dataclasses import dataclass, field
from typing import Final

import trio

from hyperfs.daemon import requests as ask
from hyperfs.daemon.failures import Described, exception_of
from hyperfs.daemon.readers import Readers, Tell
from hyperfs.daemon.supervisor import MountState, Supervisor

_AGAIN_SECONDS: Final = 0.2


@dataclass(slots=True)
class _Question:
    """What the mounts have answered so far, by their ids."""

    answers: dict[str, tuple[int | None, Described | None]] = field(default_factory=dict)
    heard: trio.Event = field(default_factory=trio.Event)


class Links:
    """Owns the questions that are open."""

    def __init__(self, supervisor: Supervisor, readers: Readers) -> None:
        """``readers`` knows how the mounts' processes are reached."""
        self._supervisor = supervisor
        self._readers = readers
        self._questions: dict[int, _Question] = {}
        self._number = 0

    async def link(self, call: ask.LinkInMount) -> int | None:
        """Have the mount that writes the drive do it; return the version, or None when no mount does.

        Raises what it failed of. Cancelled, it may be done.
        """
        self._number += 1
        number = self._number
        question = self._questions[number] = _Question()
        asked: dict[str, Tell] = {}
        try:
            while waiting := [id for id in self._writing() if id not in question.answers]:
                for id in waiting:
                    tell = self._readers.reached(id)
                    if tell is not None and asked.get(id) is not tell:
                        asked[id] = tell
                        tell(ask.Link(number, call.key, call.path, call.target, call.version))
                question.heard = trio.Event()
                with trio.move_on_after(_AGAIN_SECONDS):  # one may have ended
                    await question.heard.wait()
        finally:
            del self._questions[number]
        made = None
        for version, failure in question.answers.values():
            if failure is not None:
                raise exception_of(failure)
            made = version if made is None else made
        return made

    def answered(self, number: int, mount_id: str, version: int | None, failure: Described | None) -> None:
        """A mount's process answered; too late when nobody waits for it any more."""
        question = self._questions.get(number)
        if question is not None:
            question.answers[mount_id] = version, failure
            question.heard.set()

    def _writing(self) -> list[str]:
        mounts = self._supervisor.all()
        return [mount.record.id for mount in mounts if mount.state is MountState.READY and mount.writable]
