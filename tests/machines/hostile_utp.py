"""uTP on a hostile network: what was written arrives in order and whole, or the connection ends; nobody is spoken for.

One sees all, and drops, doubles, delays and repeats much later. One sees nothing, and forges from whatever address. One
takes part under his own address, and begins, guesses and says whatever he likes.
"""

import heapq
import random
from collections import Counter, defaultdict
from itertools import count

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.allowance import MAX_HOSTS
from hyperfs.swarm.dht.timers import Timers
from hyperfs.swarm.utp.connection import MAX_AHEAD, PACKET_BYTES, RECEIVE_BYTES, SILENCE_SECONDS, State
from hyperfs.swarm.utp.endpoint import (
    LINGER_SECONDS,
    MAX_ACCEPTED,
    MAX_CONNECTIONS,
    MAX_OF_HOST,
    MAX_UNPROVEN,
    MAX_UNPROVEN_OF_HOST,
    UtpEndpoint,
    UtpLink,
)
from hyperfs.swarm.utp.packets import SEQUENCE_MASK, Packet, PacketType, decode, encode

SEEDS = 12
_HOME = Address("192.0.2.1", 1)
_AWAY = Address("192.0.2.2", 2)
_MALLORY = "192.0.2.66"
_TURN_SECONDS = 0.25
_LATEST_SECONDS = 120.0
"""After so long at most a datagram that was sent twice comes for the second time."""
_OVER_SECONDS = 600.0
_NUMBER_BITS = 8
"""Of the numbers with which honest ends answer, so that all of them can be guessed in a run."""
_LUCKY = 6
"""Connections that are begun by guessing. Three guesses of 256 are right seldom in twenty tries; more is no luck."""


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    machine = Machine(seed)
    try:
        machine.run()
    except Exception as error:
        error.add_note("\n".join(machine.told))
        raise
    return "\n".join(machine.told)


class FewNumbers(random.Random):
    """Has an honest end answer with numbers of which there are ``few``, and dial with any."""

    few = True

    def getrandbits(self, k: int) -> int:
        """Return one of them."""
        return super().getrandbits(_NUMBER_BITS if self.few else k)


class Transfer:
    """What is written at one end of a connection, and what comes out at the other."""

    def __init__(self, rng: random.Random) -> None:
        self.data = rng.randbytes(rng.choice([0, 1, 5000, 60_000]))
        self.read = bytearray()
        self.written = 0
        self.finished = False


class Meeting:
    """One honest connection, with something to say both ways."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ends: list[UtpLink] = []
        self.ways = Transfer(rng), Transfer(rng)

    def step(self) -> None:
        """Write a little, and read what has come."""
        for link, says in zip(self.ends, self.ways, strict=False):
            if link.connection.state is State.CONNECTED and not says.finished and link.connection.has_room:
                size = self.rng.choice([1, 3000, 50_000])
                link.write(says.data[says.written : says.written + size])
                says.written = min(len(says.data), says.written + size)
                if says.written == len(says.data):
                    link.finish()
                    says.finished = True
        for link, hears in zip(self.ends, reversed(self.ways), strict=False):
            hears.read += link.read(self.rng.choice([10, 1 << 20]))
            assert hears.data.startswith(hears.read), "what came is not what was said"

    @property
    def is_whole(self) -> bool:
        """Whether all has arrived at both ends, and both know it."""
        heard = all(says.read == says.data for says in self.ways)
        return len(self.ends) == 2 and heard and all(link.connection.is_complete for link in self.ends)

    @property
    def is_broken(self) -> bool:
        """Whether an end was told that the connection is no more, and why."""
        return any(link.connection.state is State.ENDED and link.connection.problem for link in self.ends)


class Machine:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.told: list[str] = []
        self.now = 1000.0
        self.timers = Timers(lambda: self.now)
        self.loss = self.rng.choice([0.0, 0.02, 0.1])
        self.twice = self.rng.choice([0.0, 0.1, 0.5])
        self.late = self.rng.choice([0.0, 0.05, 0.3])
        self.repeated = self.rng.choice([0.0, 0.05])
        self.numbers: dict[Address, FewNumbers] = {}
        self.ends = {host: self.endpoint(host) for host in (_HOME, _AWAY)}
        self.under_way: list[tuple[float, int, bytes, Address, Address]] = []
        self.order = count()
        self.got: Counter[Address] = Counter()
        """Bytes that came with an address at which nobody is, and then those that were sent there."""
        self.gave: Counter[Address] = Counter()
        self.mallory: dict[Address, dict[int, Packet]] = defaultdict(dict)
        self.meetings: list[Meeting] = []
        self.guessed = 0
        self.of_mallory: list[UtpLink] = []
        self.spoken_to: list[UtpLink] = []
        """Those of his that something was written to; he may acknowledge it, so that they stay until they are left."""

    def endpoint(self, own: Address) -> UtpEndpoint:
        """Return an honest end."""
        rng = self.numbers[own] = FewNumbers(self.rng.getrandbits(32))
        end = UtpEndpoint(self.timers, lambda data, to: self.send(data, own, to), rng=rng)
        end.on_accept = self.accepted
        return end

    # The network

    def send(self, data: bytes, source: Address, to: Address) -> None:
        """Carry what an honest end sends: to the other, through him who sees all."""
        if to not in self.ends:
            self.gave[to] += len(data)
            packet = decode(data)
            if to.host == _MALLORY and packet is not None:
                self.mallory[to][packet.connection_id] = packet
            return
        if self.rng.random() < self.loss:
            return
        for _ in range(2 if self.rng.random() < self.twice else 1):
            self.carry(data, source, to, self.rng.uniform(0.3, 3.0) if self.rng.random() < self.late else 0.02)
        if self.rng.random() < self.repeated:
            self.carry(data, source, to, self.rng.uniform(5.0, _LATEST_SECONDS))

    def carry(self, data: bytes, source: Address, to: Address, seconds: float) -> None:
        """Have a datagram arrive in so many seconds."""
        heapq.heappush(self.under_way, (self.now + seconds, next(self.order), data, source, to))

    def pass_time(self, seconds: float) -> None:
        """Deliver what arrives, and do what is due, for so long."""
        end = self.now + seconds
        while True:
            due = [
                at for at in (self.timers.next_at, self.under_way[0][0] if self.under_way else None) if at is not None
            ]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            self.timers.run_due()
            while self.under_way and self.under_way[0][0] <= self.now:
                _, _, data, source, to = heapq.heappop(self.under_way)
                self.deliver(data, source, to)
            for one in self.ends.values():
                one.flush()
        self.now = end

    def deliver(self, data: bytes, source: Address, to: Address) -> None:
        """Have an honest end take a datagram."""
        if source not in self.ends:
            self.got[source] += len(data)
        self.ends[to].receive(data, source)

    # Who takes part

    def accepted(self, link: UtpLink) -> None:
        """See who it is that has begun a connection."""
        if link.address.host == _MALLORY:
            self.of_mallory.append(link)
            return
        for meeting in self.meetings:
            first = meeting.ends[0]
            is_it = first.connection.receive_id == link.connection.send_id and link.address in self.ends
            if is_it and len(meeting.ends) == 1 and link.address != first.address:
                meeting.ends.append(link)
                return
        self.guessed += 1

    def meet(self) -> None:
        """Begin an honest connection, one way or the other."""
        own, other = self.rng.sample([_HOME, _AWAY], 2)
        self.numbers[own].few = False
        link = self.ends[own].connect(other, lambda: None)
        self.numbers[own].few = True
        if link is not None:
            meeting = Meeting(self.rng)
            meeting.ends.append(link)
            self.meetings.append(meeting)

    def forge(self) -> None:
        """Send an honest end what it may take for somebody else's, knowing no number but those that are everywhere."""
        to = self.rng.choice([_HOME, _AWAY])
        victim = Address(f"198.51.100.{self.rng.randrange(1, 20)}", self.rng.randrange(1, 3))
        source = self.rng.choice([_HOME if to == _AWAY else _AWAY, victim])
        connection_id = self.rng.getrandbits(16)
        syn = Packet(PacketType.SYN, connection_id, 0, 0, 1 << 20, 1, 0)
        sent = [syn]
        for _ in range(self.rng.randrange(8)):
            kind = self.rng.choice(
                [PacketType.DATA, PacketType.DATA, PacketType.FIN, PacketType.STATE, PacketType.RESET]
            )
            guess = self.rng.getrandbits(16)
            ours = (connection_id + 1) & SEQUENCE_MASK
            sent.append(
                Packet(kind, ours, 0, 0, 1 << 20, 2, guess, payload=b"forged" if kind is PacketType.DATA else b"")
            )
        for packet in sent if self.rng.random() < 0.9 else sent[1:]:
            self.deliver(encode(packet), source, to)

    def guess(self) -> None:
        """Begin a connection in somebody's name, and try all numbers by which one goes on."""
        to = self.rng.choice([_HOME, _AWAY])
        victim = Address(f"198.51.100.{self.rng.randrange(20, 40)}", 1)
        connection_id = self.rng.getrandbits(16)
        self.deliver(encode(Packet(PacketType.SYN, connection_id, 0, 0, 1 << 20, 1, 0)), victim, to)
        ours = (connection_id + 1) & SEQUENCE_MASK
        for number in self.rng.sample(range(1 << _NUMBER_BITS), 1 << _NUMBER_BITS):
            right = (number - 1) & SEQUENCE_MASK
            self.deliver(encode(Packet(PacketType.DATA, ours, 0, 0, 1 << 20, 2, right, payload=b"forged")), victim, to)

    def misbehave(self) -> None:
        """Take part under an address of one's own: begin, go on as one should, or say anything."""
        to = self.rng.choice([_HOME, _AWAY])
        source = Address(_MALLORY, self.rng.randrange(1, 1 << 16))
        for number in range(self.rng.choice([1, 5, 40])):
            self.deliver(encode(Packet(PacketType.SYN, 2 * number, 0, 0, 1 << 20, 1, 0)), source, to)
        for connection_id, answer in self.mallory.pop(source, {}).items():
            right = (answer.sequence - 1) & SEQUENCE_MASK
            ours = (connection_id + 1) & SEQUENCE_MASK
            first = Packet(PacketType.DATA, ours, 0, 0, 1 << 20, 2, right, payload=b"hello")
            self.deliver(encode(first), source, to)
            for _ in range(self.rng.randrange(6)):
                self.deliver(self.anything(ours, right), source, to)
        if self.of_mallory and self.rng.random() < 0.7:
            link = self.of_mallory.pop(self.rng.randrange(len(self.of_mallory)))
            if self.rng.random() < 0.5:
                link.leave()
            else:
                link.write(b"unheard")
                self.spoken_to.append(link)

    def anything(self, connection_id: int, right: int) -> bytes:
        """Return a packet of a connection that may say anything."""
        packet = Packet(
            self.rng.choice(list(PacketType)),
            connection_id,
            self.rng.getrandbits(32),
            self.rng.getrandbits(32),
            self.rng.choice([0, 1, (1 << 32) - 1]),
            self.rng.choice([3, 4, 1002, self.rng.getrandbits(16)]),
            (right + self.rng.randrange(-4, 4)) & SEQUENCE_MASK,
            self.rng.randbytes(4 * self.rng.randrange(40)),
            self.rng.randbytes(self.rng.choice([0, 10, 8000])),
        )
        data = encode(packet)
        return data if self.rng.random() < 0.8 else data[: self.rng.randrange(len(data))]

    # The run

    def run(self) -> None:
        """Let all of them do what they do for a while, then the honest ones alone, and see what has become of it."""
        turns = self.rng.choice([10, 20, 40])
        guesses = self.rng.sample(range(turns), 5)
        for turn in range(turns):
            if turn == 0 or self.rng.random() < 0.1:
                self.meet()
            for _ in range(4 if turn in guesses else 0):
                self.guess()
            for _ in range(self.rng.choice([0, 2, 10])):
                self.forge()
            if self.rng.random() < 0.5:
                self.misbehave()
            self.turn(_TURN_SECONDS)
        ends = self.now + _OVER_SECONDS
        while self.now < ends and not all(meeting.is_whole or meeting.is_broken for meeting in self.meetings):
            self.turn(1.0)
        whole = sum(meeting.is_whole for meeting in self.meetings)
        self.told.append(
            f"{whole} of {len(self.meetings)} honest connections carried all; {self.guessed} guessed right"
        )
        assert all(meeting.is_whole or meeting.is_broken for meeting in self.meetings), "neither whole nor ended"
        assert whole == len(self.meetings), "an honest connection was broken"
        assert self.guessed <= _LUCKY, "somebody has begun connections with addresses of others"
        honest = [link for meeting in self.meetings for link in meeting.ends]
        for link in [*self.of_mallory, *self.spoken_to, *honest]:
            link.leave()
        # a beginning that was sent twice may be the last to come, and has to be given up, too
        self.turn(_LATEST_SECONDS + LINGER_SECONDS + SILENCE_SECONDS)
        left = [link for end in self.ends.values() for link in end.links]
        assert len(left) <= self.guessed, "connections stay that nobody uses"

    def turn(self, seconds: float) -> None:
        """Let time pass, and see that nothing has grown."""
        for meeting in self.meetings:
            meeting.step()
        self.pass_time(seconds)
        for end in self.ends.values():
            self.check(end)
        for address, size in self.gave.items():
            if address.host != _MALLORY:
                assert size <= self.got[address], f"{address} was sent more than came from there"

    def check(self, end: UtpEndpoint) -> None:
        """See that what an end holds is bounded."""
        of_host = Counter(link.address.host for link in end.links)
        assert len(end.links) <= MAX_CONNECTIONS + MAX_UNPROVEN
        assert len(end._accepted) <= MAX_ACCEPTED
        assert max(of_host.values(), default=0) <= MAX_OF_HOST + MAX_UNPROVEN_OF_HOST
        assert len(end._ended) <= MAX_CONNECTIONS
        assert end._allowance.hosts <= 3 * MAX_HOSTS
        for link in end.links:
            one = link.connection
            assert one._early_bytes == sum(map(len, one._early.values())) <= RECEIVE_BYTES
            assert len(one._received) <= RECEIVE_BYTES + 8 * PACKET_BYTES
            assert len(one._flight) <= MAX_AHEAD
            assert one._flight_bytes >= 0
