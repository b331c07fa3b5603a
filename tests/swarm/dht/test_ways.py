"""The ways from those who keep what was announced stay open, at a bounded cost, and only where that is needed."""

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.timers import Timers
from hyperfs.swarm.dht.ways import KEEP_OPEN_SECONDS, MAX_KEPT, OpenWays

TOPIC, OTHER_TOPIC = bytes(32), bytes([1]) * 32
FIRST, SECOND, THIRD = (Address(f"11.0.0.{number}", 1) for number in (1, 2, 3))


class Kept:
    """Ways on a clock of their own; ``sent`` is who was sent something."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sent: list[Address] = []
        self.needed = True
        self.timers = Timers(lambda: self.now)
        self.ways = OpenWays(self.timers, self.sent.append, lambda: self.needed)

    def pass_time(self) -> None:
        """Let as much time pass as may go by without a word."""
        self.sent.clear()
        self.now += KEEP_OPEN_SECONDS
        self.timers.run_due()


def test_whoever_keeps_an_announcement_is_sent_something_again_and_again() -> None:
    kept = Kept()
    kept.ways.keep(TOPIC, [FIRST, SECOND])
    for _ in range(3):
        kept.pass_time()
        assert set(kept.sent) == {FIRST, SECOND}


def test_who_keeps_several_is_sent_one() -> None:
    kept = Kept()
    kept.ways.keep(TOPIC, [FIRST, SECOND])
    kept.ways.keep(OTHER_TOPIC, [SECOND, THIRD])
    kept.pass_time()
    assert sorted(kept.sent) == [FIRST, SECOND, THIRD]


def test_who_keeps_it_no_more_is_sent_nothing() -> None:
    kept = Kept()
    kept.ways.keep(TOPIC, [FIRST])
    kept.ways.keep(TOPIC, [SECOND])
    kept.pass_time()
    assert kept.sent == [SECOND]
    kept.ways.keep(TOPIC, [])
    kept.pass_time()
    assert kept.sent == []
    assert kept.timers.next_at is None


def test_where_nothing_is_between_us_nothing_is_sent() -> None:
    kept = Kept()
    kept.needed = False
    kept.ways.keep(TOPIC, [FIRST])
    kept.pass_time()
    assert kept.sent == []
    kept.needed = True
    kept.pass_time()
    assert kept.sent == [FIRST]


def test_of_many_the_newest_are_kept() -> None:
    kept = Kept()
    for topic in range(100):
        kept.ways.keep(bytes([topic]) * 32, [Address(f"11.0.{topic}.{number}", 1) for number in range(20)])
    kept.pass_time()
    assert len(kept.sent) == MAX_KEPT
    assert kept.sent[0].host.startswith("11.0.99.")


def test_closed_it_sends_nothing() -> None:
    kept = Kept()
    kept.ways.keep(TOPIC, [FIRST])
    kept.ways.close()
    kept.pass_time()
    assert kept.sent == []
