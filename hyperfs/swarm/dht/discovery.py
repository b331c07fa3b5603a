"""The DHT as a way to find peers, and to be found."""

from __future__ import annotations

from typing import Final

from hyperfs.swarm.dht.service import DhtService, FoundPeer
from hyperfs.swarm.dht.walk import WalkReport
from hyperfs.swarm.discovery import Found, Interest
from hyperfs.swarm.punching import PunchedRoute

LEAST_SECONDS: Final = 2.0
"""How long after a walk the next one begins at the soonest, however long somebody has waited."""


class DhtDiscovery:
    """Looks up and announces topics by ``service``: a `Discovery`."""

    name: Final = "DHT"

    def __init__(self, service: DhtService) -> None:
        self._service = service

    async def follow(self, interest: Interest) -> None:
        """See `Discovery.follow`. What is announced is looked up besides only once: the answers are the same."""

        def found(peer: FoundPeer) -> None:
            if interest.looks:
                teller = None if peer.referrer is None else peer.referrer.host
                interest.found(Found(PunchedRoute(peer.address, peer.referrer, self._service), peer.address, teller))

        def walked(report: WalkReport) -> None:
            answered = f"{report.answers} of {report.asked}" if report.answers else f"none of {report.asked}"
            interest.looked(f"{answered} nodes answered")

        async def pause(seconds: float) -> None:
            await interest.timer.pause(seconds, least_seconds=LEAST_SECONDS)

        if interest.port is None:
            await self._service.keep_looking(interest.topic, found=found, walked=walked, pause=pause)
        else:
            # Who listens for TCP at the number of the DHT's socket is reached where the DHT sees it.
            port = 0 if interest.port == self._service.address.port else interest.port
            await self._service.keep_announced(interest.topic, port=port, found=found, walked=walked, pause=pause)
