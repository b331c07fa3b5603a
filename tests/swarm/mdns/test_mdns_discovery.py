"""What multicast DNS says of how it looked."""

import socket

import pytest
import trio
import trio.testing

from hyperfs.swarm.discovery import Interest, LookTimer
from hyperfs.swarm.interfaces import Interface
from hyperfs.swarm.mdns.discovery import ANSWER_SECONDS, MdnsDiscovery
from hyperfs.swarm.mdns.service import MdnsService

NOT_THERE = Interface(1 << 24, is_loopback=False, host="192.0.2.1")
"""What is sent by it goes nowhere."""


@pytest.mark.parametrize(
    ("interfaces", "words"),
    [([NOT_THERE], "everybody was asked"), ([], "this machine is on none with IPv4")],
)
async def test_whether_there_was_anybody_to_ask_is_said(
    interfaces: list[Interface],
    words: str,
    patient_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperfs.swarm.mdns.service.usable_interfaces", lambda: frozenset(interfaces))
    looked: list[str | None] = []
    interest = Interest(bytes(32), None, True, lambda found: None, looked.append, LookTimer(lambda: False))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        service = MdnsService(sock)
        service.look_at_interfaces()
        with trio.move_on_after(1.5 * ANSWER_SECONDS):
            await MdnsDiscovery(service).follow(interest)
    assert looked == [words]
