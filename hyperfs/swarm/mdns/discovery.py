"""Multicast DNS as a way to find peers, and to be found."""

from __future__ import annotations

import random
from typing import Final

import trio

from hyperfs.swarm.discovery import Found, Interest
from hyperfs.swarm.mdns.neighbours import Neighbour
from hyperfs.swarm.mdns.service import MdnsService
from hyperfs.swarm.routes import TcpRoute

ASK_SECONDS: Final = (30.0, 60.0)
AGAIN_SECONDS: Final = 2.0
"""When the first question is asked again: on a wireless network many are lost."""
LEAST_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 1.0
"""After so long everybody who is there has answered a question."""


class MdnsDiscovery:
    """Looks for and announces topics by ``service``: a `Discovery`."""

    name: Final = "local network"

    def __init__(self, service: MdnsService) -> None:
        self._service = service

    async def follow(self, interest: Interest) -> None:
        """See `Discovery.follow`."""

        def found(neighbour: Neighbour) -> None:
            interest.found(Found(TcpRoute(*neighbour.address), neighbour.address, neighbour.sender))

        self._service.join(interest.topic, port=interest.port, found=found if interest.looks else None)
        try:
            await trio.sleep(ANSWER_SECONDS)
            self._tell(interest)
            await trio.sleep(AGAIN_SECONDS - ANSWER_SECONDS)
            while True:
                self._service.ask(interest.topic)
                self._tell(interest)
                await interest.timer.pause(random.uniform(*ASK_SECONDS), least_seconds=LEAST_SECONDS)
        finally:
            self._service.leave(interest.topic)

    def _tell(self, interest: Interest) -> None:
        interest.looked("everybody was asked" if self._service.is_on_network else "this machine is on none with IPv4")
