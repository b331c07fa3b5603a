"""One uTP connection as a state machine without I/O.

The rules: bytes are handed on once, in order, and only what fits what was promised is kept. A packet is sent again when
three that went out after it have arrived, or when nothing at all came for a whole time-out. Whoever says nothing for
`SILENCE_SECONDS` while something is due from him is gone. Anybody can write somebody else's address on a datagram: what
ends a connection, or opens it, names numbers that only who receives what is sent to that address knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hyperfs.swarm.utp.congestion import Congestion
from hyperfs.swarm.utp.packets import HEADER, MICROSECONDS_MASK, NO_DELAY, SEQUENCE_MASK, Packet, PacketType, encode

PACKET_BYTES: Final = 1392
"""A datagram at most, so that it fits the tunnels that there are (1,420 bytes with the headers of IP and UDP)."""
PAYLOAD_BYTES: Final = PACKET_BYTES - HEADER.size
RECEIVE_BYTES: Final = 1 << 20
"""Bytes that are kept at most until they are read, those that came behind a gap included."""
SEND_BYTES: Final = 128 << 10
"""Bytes that wait to be sent at most before a writer has to wait."""
MAX_AHEAD: Final = 1000
"""Packets that are under way, or kept behind a gap, at most; libutp takes 1,023."""
SILENCE_SECONDS: Final = 30.0
SYN_SECONDS: Final = 1.0
"""After how long a SYN is sent again: a NAT on the way may only just have opened."""
_REORDERED: Final = 3
MAX_GUESSES: Final = 3
"""Wrong numbers after which nothing more is taken from who began a connection and does not receive what answers it."""
_MAX_SELECTIVE_BYTES: Final = 128
_PROBE_SECONDS: Final = 5.0
"""How often a receiver who takes nothing is asked whether he takes something by now."""


class State(Enum):
    """Where a connection stands."""

    SYN_SENT = "SYN sent"
    SYN_RECEIVED = "SYN received"
    """The other side has not shown yet that it receives what we send."""
    CONNECTED = "connected"
    ENDED = "ended"


@dataclass(slots=True)
class _Segment:
    """A packet until it is acknowledged. ``order`` counts the transmissions of the whole connection."""

    kind: PacketType
    sequence: int
    payload: bytes
    sent_at: float = 0.0
    order: int = 0
    transmissions: int = 0
    is_lost: bool = False


class Connection:
    """A connection that sends by ``send``. Whoever owns it calls `tick` when `due_at` has come.

    ``changed`` is called after anything that a reader or a writer may wait for: bytes, room, the end.
    """

    def __init__(
        self,
        *,
        state: State,
        receive_id: int,
        send_id: int,
        sequence: int,
        acknowledged: int,
        now: float,
        send: Callable[[bytes], None],
        changed: Callable[[], None],
    ) -> None:
        self.state = state
        self.receive_id = receive_id
        self.send_id = send_id
        self.problem: str | None = None
        """Why it ended, other than by what both sides wanted."""
        self.ack_due = False
        """Whether something came that was not acknowledged yet; see `acknowledge`."""
        self._send_bytes = send
        self._changed = changed
        self._congestion = Congestion(PAYLOAD_BYTES)
        self._next = sequence
        self._acknowledged = acknowledged
        self._delay = 0
        self._unsent = bytearray()
        self._finishes = False
        self._fin_sent = False
        self._flight: dict[int, _Segment] = {}
        self._flight_bytes = 0
        self._lost = 0
        self._order = 0
        self._newest_arrived = 0
        self._peer_window = RECEIVE_BYTES
        self._told_window = RECEIVE_BYTES
        self._received = bytearray()
        self._early: dict[int, bytes] = {}
        self._early_bytes = 0
        self._end: int | None = None
        self._is_complete = False
        self._discards = False
        self._guesses = 0
        self._heard_at = now
        self._timeout_at = float("inf")
        self._probe_at = float("inf")

    @classmethod
    def dial(
        cls, receive_id: int, sequence: int, now: float, send: Callable[[bytes], None], changed: Callable[[], None]
    ) -> Connection:
        """Begin a connection, with random 16-bit numbers, by sending a SYN."""
        connection = cls(
            state=State.SYN_SENT,
            receive_id=receive_id,
            send_id=(receive_id + 1) & SEQUENCE_MASK,
            sequence=sequence,
            acknowledged=0,
            now=now,
            send=send,
            changed=changed,
        )
        connection._launch(PacketType.SYN, b"", now)
        return connection

    @classmethod
    def answer(
        cls, syn: Packet, sequence: int, now: float, send: Callable[[bytes], None], changed: Callable[[], None]
    ) -> Connection:
        """Answer a SYN, with a random 16-bit number of our own."""
        connection = cls(
            state=State.SYN_RECEIVED,
            receive_id=(syn.connection_id + 1) & SEQUENCE_MASK,
            send_id=syn.connection_id,
            sequence=sequence,
            acknowledged=syn.sequence,
            now=now,
            send=send,
            changed=changed,
        )
        connection._peer_window = syn.window
        connection._delay = (_microseconds(now) - syn.sent_at) & MICROSECONDS_MASK
        connection.acknowledge(now)
        return connection

    # What its owner does

    @property
    def is_complete(self) -> bool:
        """Whether the other side has said its last, and all of that has come."""
        return self._is_complete

    @property
    def is_left(self) -> bool:
        """Whether nobody reads what comes; see `discard`."""
        return self._discards

    @property
    def is_delivered(self) -> bool:
        """Whether all that was written has arrived, and the end of it, if it has one."""
        return not self._unsent and not self._flight and self._finishes == self._fin_sent

    @property
    def has_room(self) -> bool:
        """Whether a writer may go on."""
        return len(self._unsent) < SEND_BYTES

    def read(self, most: int, now: float) -> bytes:
        """Take up to ``most`` bytes; none when there are none now."""
        data = bytes(self._received[:most])
        del self._received[:most]
        if self.state is State.CONNECTED and not self._is_complete:
            window = self._window
            if self._told_window < PACKET_BYTES <= window or window - self._told_window >= RECEIVE_BYTES // 2:
                self.acknowledge(now)
        return data

    def write(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Have bytes sent: now, or as soon as they may be. Nothing may be written after `finish`."""
        assert not self._finishes
        self._unsent += data
        self._pump(now)

    def finish(self, now: float) -> None:
        """Say that nothing more will be written."""
        self._finishes = True
        self._pump(now)

    def discard(self) -> None:
        """Nobody reads any more: what comes is acknowledged and forgotten."""
        self._discards = True
        self._received.clear()

    def reset(self, now: float, problem: str) -> None:
        """End at once, telling the other side."""
        if self.state is not State.ENDED:
            self._transmit(PacketType.RESET, self._next, b"", now)
            self._ended(problem)

    def acknowledge(self, now: float) -> None:
        """Tell what has come, and how much more may."""
        self._transmit(PacketType.STATE, self._next, b"", now)

    @property
    def due_at(self) -> float:
        """When `tick` is to be called; infinity when nothing is due."""
        return min(self._timeout_at, self._probe_at)

    def tick(self, now: float) -> None:
        """Do what is due by ``now``: send again what nothing was heard of, or give up."""
        if self.state is State.ENDED:
            return
        if now >= self._probe_at:
            self._probe_at = float("inf")
            self._peer_window = max(self._peer_window, PAYLOAD_BYTES)
            self._pump(now)
        if now >= self._timeout_at:
            self._timed_out(now)

    # What comes

    def receive(self, packet: Packet, now: float) -> bool:
        """Take a packet of this connection, as its id says; one that cannot be meant is passed over, which is False."""
        if self.state is State.ENDED:
            return False
        if packet.kind is PacketType.RESET:
            is_meant = self._names_what_was_sent(packet)
            if is_meant:
                self._ended("refused" if self.state is State.SYN_SENT else "reset by the other side")
                self._changed()
            return is_meant
        if packet.kind is PacketType.SYN:
            if self.state is State.SYN_RECEIVED:  # what answered it was lost
                self.acknowledge(now)
            return True
        if self.state is State.SYN_SENT:
            if packet.kind is not PacketType.STATE or packet.acknowledged not in self._flight:
                return False
            self.state = State.CONNECTED
            # an acknowledgement names the next packet, which is not sent yet
            self._acknowledged = (packet.sequence - 1) & SEQUENCE_MASK
        elif not self._is_acceptable(packet):
            if self.state is State.SYN_RECEIVED:
                self._note_guess()
            return False
        self._heard_at = now
        self._delay = (_microseconds(now) - packet.sent_at) & MICROSECONDS_MASK
        self._take_acknowledgement(packet, now)
        if packet.kind is not PacketType.STATE:
            self.state = State.CONNECTED
            self._take_data(packet)
        self._pump(now)
        self._changed()
        return True

    def _is_acceptable(self, packet: Packet) -> bool:
        """Tell whether what it acknowledges was sent, and not long ago, and so no stranger has guessed it."""
        newest = (self._next - 1) & SEQUENCE_MASK
        if self.state is State.SYN_RECEIVED:
            return packet.acknowledged == newest  # there is nothing older that could have been acknowledged
        return (newest - packet.acknowledged) & SEQUENCE_MASK <= self._span + _REORDERED

    def _names_what_was_sent(self, reset: Packet) -> bool:
        """Tell whether a RESET is the answer to something that was sent not long ago, and so no stranger's guess.

        It names what it answers, which of an acknowledgement is the next number, or the newest that its sender had.
        """
        return (self._next - reset.acknowledged) & SEQUENCE_MASK <= self._span + 1 + _REORDERED

    def _note_guess(self) -> None:
        """Note that a number was wrong which everybody knows who got what was sent: one of 65,536 is guessed soon."""
        self._guesses += 1
        if self._guesses >= MAX_GUESSES:
            self._ended("the other side does not receive what is sent to it")  # nor would it the RESET
            self._changed()

    def _take_acknowledgement(self, packet: Packet, now: float) -> None:
        self._peer_window = packet.window
        if self._peer_window >= PAYLOAD_BYTES:
            self._probe_at = float("inf")
        arrived = self._arrived(packet)
        if not arrived:
            return
        size = 0
        round_trip: float | None = None
        for segment in arrived:
            del self._flight[segment.sequence]
            size += len(segment.payload)
            if segment.is_lost:
                self._lost -= 1
            else:
                self._flight_bytes -= len(segment.payload)
            if segment.transmissions == 1:
                took = now - segment.sent_at
                round_trip = took if round_trip is None else min(round_trip, took)
            self._newest_arrived = max(self._newest_arrived, segment.order)
        if packet.delay not in (0, NO_DELAY):
            self._congestion.measured(packet.delay, now)
        self._congestion.acknowledged(size, round_trip, now)
        self._mark_lost(now)
        self._timeout_at = now + self._congestion.timeout_seconds if self._flight else float("inf")

    def _arrived(self, packet: Packet) -> list[_Segment]:
        """Return what of the flight a packet acknowledges."""
        arrived = []
        for sequence, segment in self._flight.items():
            if (packet.acknowledged - sequence) & SEQUENCE_MASK > SEQUENCE_MASK // 2:
                break
            arrived.append(segment)
        base = packet.acknowledged + 2
        for at, byte in enumerate(packet.selective[:_MAX_SELECTIVE_BYTES]):
            for bit in range(8) if byte else ():
                if byte & 1 << bit:
                    found = self._flight.get((base + 8 * at + bit) & SEQUENCE_MASK)
                    if found is not None:
                        arrived.append(found)
        return arrived

    def _mark_lost(self, now: float) -> None:
        for segment in self._flight.values():
            if segment.order > self._newest_arrived - _REORDERED:
                if segment.transmissions == 1:
                    break  # so were all behind it: later, in order
                continue
            if not segment.is_lost:
                self._lose(segment)
                self._congestion.lost(now)

    def _lose(self, segment: _Segment) -> None:
        segment.is_lost = True
        self._lost += 1
        self._flight_bytes -= len(segment.payload)

    def _take_data(self, packet: Packet) -> None:
        ahead = (packet.sequence - self._acknowledged - 1) & SEQUENCE_MASK
        self.ack_due = True
        if ahead >= MAX_AHEAD or self._is_complete:
            return  # it came before, or cannot be meant
        if packet.kind is PacketType.FIN:
            if self._end is None:
                self._end = packet.sequence
        elif self._end is not None and (self._end - packet.sequence) & SEQUENCE_MASK > SEQUENCE_MASK // 2:
            return  # behind the end
        if packet.sequence in self._early or len(self._received) >= RECEIVE_BYTES:
            return
        if ahead and len(packet.payload) > self._window:
            return  # what fills the gap is always taken
        self._early[packet.sequence] = packet.payload
        self._early_bytes += len(packet.payload)
        while not self._is_complete and (following := (self._acknowledged + 1) & SEQUENCE_MASK) in self._early:
            payload = self._early.pop(following)
            self._early_bytes -= len(payload)
            self._acknowledged = following
            if not self._discards:
                self._received += payload
            self._is_complete = following == self._end
        if self._is_complete:
            self._early.clear()
            self._early_bytes = 0

    # What goes

    @property
    def _span(self) -> int:
        """How many packets lie between the oldest that is not acknowledged and the next one."""
        return (self._next - next(iter(self._flight), self._next)) & SEQUENCE_MASK

    @property
    def _window(self) -> int:
        return max(0, RECEIVE_BYTES - len(self._received) - self._early_bytes)

    def _pump(self, now: float) -> None:
        """Send what may be sent: first again what was lost."""
        if self.state is not State.CONNECTED:
            return
        for segment in self._flight.values() if self._lost else ():
            if segment.is_lost:
                if not self._may_send(len(segment.payload), now):
                    return
                self._send_again(segment, now)
        while self._unsent and self._span < MAX_AHEAD and self._may_send(min(len(self._unsent), PAYLOAD_BYTES), now):
            payload = bytes(self._unsent[:PAYLOAD_BYTES])
            del self._unsent[:PAYLOAD_BYTES]
            self._launch(PacketType.DATA, payload, now)
        if self._finishes and not self._fin_sent and not self._unsent and self._span < MAX_AHEAD:
            self._fin_sent = True
            self._launch(PacketType.FIN, b"", now)

    def _may_send(self, size: int, now: float) -> bool:
        if self._peer_window < min(size, PAYLOAD_BYTES) and not self._flight_bytes:
            self._probe_at = min(self._probe_at, now + _PROBE_SECONDS)
            return False
        limit = min(self._congestion.window_bytes, self._peer_window)
        if self._flight_bytes and self._flight_bytes + size > limit:
            self._congestion.filled(now)
            return False
        return True

    def _send_again(self, segment: _Segment, now: float) -> None:
        segment.is_lost = False
        self._lost -= 1
        self._put_out(segment, now)

    def _launch(self, kind: PacketType, payload: bytes, now: float) -> None:
        segment = self._flight[self._next] = _Segment(kind, self._next, payload)
        self._next = (self._next + 1) & SEQUENCE_MASK
        self._put_out(segment, now)

    def _put_out(self, segment: _Segment, now: float) -> None:
        self._order += 1
        segment.order = self._order
        segment.sent_at = now
        segment.transmissions += 1
        self._flight_bytes += len(segment.payload)
        if self._timeout_at == float("inf"):
            self._heard_at = now
            self._timeout_at = now + self._timeout_seconds
        self._transmit(segment.kind, segment.sequence, segment.payload, now)

    @property
    def _timeout_seconds(self) -> float:
        return SYN_SECONDS if self.state is State.SYN_SENT else self._congestion.timeout_seconds

    def _timed_out(self, now: float) -> None:
        if now - self._heard_at >= SILENCE_SECONDS:
            self.reset(now, f"silent for {SILENCE_SECONDS:.0f} s")
            self._changed()
            return
        self._congestion.timed_out()
        for segment in self._flight.values():
            if not segment.is_lost:
                self._lose(segment)
        self._send_again(next(iter(self._flight.values())), now)
        self._timeout_at = now + self._timeout_seconds

    def _transmit(self, kind: PacketType, sequence: int, payload: bytes, now: float) -> None:
        self.ack_due = False
        self._told_window = self._window
        selective = self._selective() if kind is PacketType.STATE and self._early else b""
        self._send_bytes(
            encode(
                Packet(
                    kind,
                    self.receive_id if kind is PacketType.SYN else self.send_id,
                    _microseconds(now),
                    self._delay,
                    self._told_window,
                    sequence,
                    self._acknowledged,
                    selective,
                    payload,
                )
            )
        )

    def _selective(self) -> bytes:
        base = self._acknowledged + 2
        mask = 0
        for sequence in self._early:
            mask |= 1 << ((sequence - base) & SEQUENCE_MASK)
        size = min(-(-mask.bit_length() // 32) * 4, _MAX_SELECTIVE_BYTES)
        return (mask & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _ended(self, problem: str) -> None:
        self.state = State.ENDED
        self.problem = problem
        self._unsent.clear()
        self._flight.clear()
        self._early.clear()
        self._flight_bytes = self._early_bytes = self._lost = 0
        self._timeout_at = self._probe_at = float("inf")


def _microseconds(now: float) -> int:
    return int(now * 1e6) & MICROSECONDS_MASK
