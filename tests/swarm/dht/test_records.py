"""What a node keeps for others is bounded, goes by itself, and is told only to who may know."""

import random

import pytest

from hyperfs.crypto import key_pair, sign
from hyperfs.swarm.addresses import Address, decode_addresses
from hyperfs.swarm.dht import records
from hyperfs.swarm.dht.datagrams import Mutable, PeersInput
from hyperfs.swarm.dht.records import GENERATION_SECONDS, MAX_TOLD, Announcements, Values, immutable_target
from hyperfs.swarm.dht.service import ANNOUNCE_SECONDS

TOPIC = bytes(range(32))
PAIR = key_pair(bytes(32))
ASKER = Address("192.0.2.200", 7)
PLAIN = PeersInput()


def announcer(number: int) -> Address:
    return Address(f"10.0.{number >> 8}.{number & 255}", 4000)


def told(announcements: Announcements, source: Address = ASKER, asked: PeersInput = PLAIN) -> list[Address]:
    return decode_addresses(announcements.told(TOPIC, asked, source).peers, MAX_TOLD)


def with_announcers(count: int) -> Announcements:
    announcements = Announcements(random.Random(1))
    for number in range(count):
        announcements.update(TOPIC, PeersInput(), announcer(number))
    return announcements


def test_at_most_128_are_told_of_at_random() -> None:
    announcements = with_announcers(500)
    first, second = told(announcements), told(announcements)
    assert len(set(first)) == len(set(second)) == MAX_TOLD
    assert set(first) != set(second)


def test_nobody_is_told_of_himself() -> None:
    announcements = with_announcers(2)
    assert told(announcements, announcer(0)) == [announcer(1)]


def test_the_port_that_was_said_is_the_one_that_is_told() -> None:
    announcements = Announcements(random.Random(1))
    announcements.update(TOPIC, PeersInput(port=5), announcer(1))
    assert told(announcements) == [announcer(1)._replace(port=5)]


def test_an_announcement_lasts_one_generation_and_no_third() -> None:
    announcements = with_announcers(1)
    announcements.age()
    assert told(announcements) == [announcer(0)]
    announcements.age()
    assert told(announcements) == []


def test_announcing_again_makes_it_last() -> None:
    announcements = with_announcers(1)
    announcements.age()
    announcements.update(TOPIC, PeersInput(), announcer(0))
    announcements.age()
    assert told(announcements) == [announcer(0)]
    assert len(announcements) == 1


def test_it_is_announced_again_before_anybody_forgets_it() -> None:
    assert max(ANNOUNCE_SECONDS) < GENERATION_SECONDS


def test_a_host_that_takes_back_what_it_announced_may_announce_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORDS_OF_HOST", 3)
    announcements = Announcements(random.Random(1))
    for port in range(1, 6):
        announcements.update(TOPIC, PeersInput(port), announcer(1))
    assert [address.port for address in sorted(told(announcements))] == [1, 2, 3]
    for port in (1, 5):
        announcements.update(TOPIC, PeersInput(port, unannounce=True), announcer(1))
    for port in (7, 8):
        announcements.update(TOPIC, PeersInput(port), announcer(1))
    assert [address.port for address in sorted(told(announcements))] == [2, 3, 7]


def test_any_order_of_announcing_and_taking_back_leaves_who_is_there() -> None:
    rng = random.Random(1)
    announcements = Announcements(rng)
    there: dict[Address, int] = {}
    generation = 0
    for _ in range(5000):
        source = announcer(rng.randrange(60))
        step = rng.random()
        if step < 0.01:
            generation += 1
            announcements.age()
        elif step < 0.6:
            announcements.update(TOPIC, PeersInput(), source)
            there[source] = generation
        else:
            announcements.update(TOPIC, PeersInput(unannounce=True), source)
            there.pop(source, None)
        kept = {source for source, last in there.items() if generation - last <= 1}
        assert set(told(announcements)) == kept
        assert len(announcements) == len(kept)


def test_what_is_taken_back_is_gone_from_both_generations() -> None:
    announcements = with_announcers(1)
    announcements.age()
    announcements.update(TOPIC, PeersInput(unannounce=True), announcer(0))
    assert len(announcements) == 0


def test_the_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORDS", 50)
    assert len(with_announcers(500)) <= 102


def test_one_host_cannot_fill_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORDS_OF_HOST", 10)
    announcements = with_announcers(1)
    for port in range(1, 500):
        announcements.update(TOPIC, PeersInput(port=port), announcer(7))
    assert len(announcements) == 11


def test_a_local_address_is_told_only_to_who_shares_the_public_one() -> None:
    announcements = Announcements(random.Random(1))
    at_home = PeersInput(local=Address("192.168.1.20", 4000))
    announcements.update(TOPIC, at_home, announcer(1))
    asked = PeersInput(local=Address("192.168.1.30", 4000))
    assert announcements.told(TOPIC, asked, ASKER).local == b""
    assert announcements.told(TOPIC, asked, announcer(1)).local == bytes([1, 20]) + (4000).to_bytes(2, "big")


def test_a_value_is_kept_under_its_hash_and_no_other() -> None:
    values = Values()
    assert values.put_immutable(immutable_target(b"a"), b"a") is None
    assert values.immutable(immutable_target(b"a")) == b"a"
    assert values.put_immutable(immutable_target(b"a"), b"b") == "ERR_INVALID_INPUT"
    assert values.put_immutable(immutable_target(bytes(1001)), bytes(1001)) == "ERR_INVALID_INPUT"


def record(value: bytes, seq: int, salt: bytes | None = None) -> Mutable:
    unsigned = Mutable(seq, salt, value)
    return Mutable(seq, salt, value, sign(unsigned.signable(), PAIR.secret))


def test_a_newer_value_of_a_key_replaces_an_older_one_and_not_the_other_way_round() -> None:
    values = Values()
    first, second = record(b"one", 1), record(b"two", 2)
    assert values.put_mutable(PAIR.public, second) == (None, None)
    assert values.put_mutable(PAIR.public, first) == ("ERR_SEQ_MUST_EXCEED_CURRENT", second)
    assert values.put_mutable(PAIR.public, record(b"else", 2)) == ("ERR_INVALID_SEQ", second)
    assert values.mutable(PAIR.public, Mutable(seq=2)) == second
    assert values.mutable(PAIR.public, Mutable(seq=3)) is None


def test_each_salt_has_a_value_of_its_own() -> None:
    values = Values()
    salted = record(b"salted", 1, bytes(16))
    assert values.put_mutable(PAIR.public, salted) == (None, None)
    assert values.mutable(PAIR.public, Mutable()) is None
    assert values.mutable(PAIR.public, Mutable(salt=bytes(16))) == salted


def test_a_value_that_its_key_did_not_sign_is_not_kept() -> None:
    good = record(b"one", 1)
    for bad in (Mutable(2, None, good.value, good.signature), Mutable(1, None, good.value, None), Mutable(1)):
        assert Values().put_mutable(PAIR.public, bad) == ("ERR_INVALID_INPUT", None)


def test_values_used_least_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_VALUES", 2)
    values = Values()
    targets = []
    for number in range(5):
        value = bytes([number])
        targets.append(immutable_target(value))
        values.put_immutable(targets[-1], value)
        values.immutable(targets[0])
    assert [values.immutable(target) is not None for target in targets] == [True, False, True, True, True]
