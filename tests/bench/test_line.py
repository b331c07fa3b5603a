"""The line that stands in for a long one: on a clock of its own, and between two namespaces."""

import subprocess
import sys

import pytest

from tests.support.far_hosts import far_hosts
from tests.support.line import Conditions, Line

PACKET = bytes(1000)
MEGABIT = 1e6


def arrivals(line: Line) -> list[float]:
    """Take everything that is under way; return when each packet arrived."""
    times = []
    while (due := line.next_arrival) is not None:
        assert line.take(due - 1e-9) is None
        assert line.take(due) is not None
        times.append(due)
    return times


def test_a_packet_arrives_half_a_round_trip_later() -> None:
    line = Line(Conditions(0.1))
    line.put(1.0, PACKET)
    line.put(2.0, PACKET)
    assert arrivals(line) == pytest.approx([1.05, 2.05])


def test_packets_are_sent_one_after_the_other_at_the_rate() -> None:
    line = Line(Conditions(0.1, rate=8 * MEGABIT))
    for _ in range(3):
        line.put(1.0, PACKET)
    line.put(5.0, PACKET)
    assert arrivals(line) == pytest.approx([1.051, 1.052, 1.053, 5.051])


def test_what_the_queue_has_no_room_for_is_dropped() -> None:
    line = Line(Conditions(0.1, rate=8 * MEGABIT, queue_bytes=2500))
    for _ in range(6):
        line.put(1.0, PACKET)
    assert arrivals(line) == pytest.approx([1.051, 1.052, 1.053])
    assert (line.carried, line.dropped) == (3, 3)
    line.put(1.003, PACKET)
    assert arrivals(line) == pytest.approx([1.054])


def test_a_part_of_the_packets_is_lost_and_the_same_ones_each_time() -> None:
    def lost() -> list[int]:
        line = Line(Conditions(0.1, loss=0.1), seed=7)
        for number in range(1000):
            line.put(0.0, number.to_bytes(2, "big"))
        arrived = set()
        while (packet := line.take(1.0)) is not None:
            arrived.add(int.from_bytes(packet, "big"))
        return [number for number in range(1000) if number not in arrived]

    assert 60 < len(lost()) < 140
    assert lost() == lost()


def test_two_hosts_reach_each_other_over_the_line_and_it_tells_what_it_carried() -> None:
    answering = """
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 4000))
print("ready", flush=True)
data, address = udp.recvfrom(100)
udp.sendto(data[::-1], address)
"""
    asking = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(60)
udp.sendto(b"there", (sys.argv[1], 4000))
print(udp.recvfrom(100)[0].decode())
"""
    with far_hosts(Conditions(0.02, rate=100 * MEGABIT)) as (near, far, carrier):
        with subprocess.Popen([*far.wrapper, sys.executable, "-c", answering], stdout=subprocess.PIPE) as answerer:
            assert answerer.stdout is not None
            assert answerer.stdout.readline() == b"ready\n"
            asked = subprocess.run(
                [*near.wrapper, sys.executable, "-c", asking, far.address], capture_output=True, text=True, check=True
            )
        assert asked.stdout == "ereht\n"
        report = carrier.report()
        assert report["carried"] >= 2
        assert report["dropped"] == 0
