"""One node of the DHT: it answers others, keeps its table, and walks.

The rules: nobody is believed to be where he says before he answered from there; what is kept and answered is bounded.
An ephemeral node tells its id to nobody, so that nobody relies on it; it still answers.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from typing import Final

from hyperfs.swarm.addresses import Address, encode_address
from hyperfs.swarm.allowance import Allowance, Rates
from hyperfs.swarm.dht.datagrams import (
    ID_BYTES,
    Datagram,
    Holepunch,
    Kind,
    Mutable,
    PeersInput,
    decode,
    encode,
    encode_nodes,
)
from hyperfs.swarm.dht.keeping import TICK_SECONDS, Keeping
from hyperfs.swarm.dht.reachability import Nat, agreed_address, nat_of
from hyperfs.swarm.dht.records import GENERATION_SECONDS, INVALID_INPUT, Announcements, Values
from hyperfs.swarm.dht.requests import HOLEPUNCH, Asked, Requests
from hyperfs.swarm.dht.strangers import SentTo, Trial
from hyperfs.swarm.dht.table import Contact, RoutingTable, node_addresses
from hyperfs.swarm.dht.timers import Timer, Timers
from hyperfs.swarm.dht.tokens import ROTATION_SECONDS, Tokens
from hyperfs.swarm.dht.walk import NEAREST, Walk, WalkReport
from hyperfs.swarm.reach import may_dial

logger = logging.getLogger(__name__)

PING: Final = "_ping"
FIND_NODE: Final = "_find_node"
PEERS: Final = "peers"
IMMUTABLE: Final = "immutable-store"
MUTABLE: Final = "mutable-store"
_RELAYING: Final = Rates(unproven_host=10.0)
"""Hole punches that are passed on: half of what the one who is asked for may be sent."""
_EPHEMERAL_SECONDS: Final = (1200.0, 1800.0)

Answered = Callable[[Datagram, Address], None]


class DhtNode:
    """A node with the 32-byte ``id``. ``send`` sends bytes to an address; `receive` is told what comes.

    ``bootstrap`` are nodes to begin with; without any this is the first one. ``ephemeral`` nodes become persistent when
    no router turns out to be before them, or one that lets strangers through, unless ``adaptive`` is off; ``is_ours``
    tells whether this machine has an address itself.
    """

    def __init__(
        self,
        timers: Timers,
        send: Callable[[bytes, Address], None],
        *,
        bootstrap: Sequence[Address] = (),
        id: bytes | None = None,
        ephemeral: bool = True,
        adaptive: bool = True,
        is_ours: Callable[[str], bool] = lambda host: True,
        rates: Rates | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._random = rng or random.SystemRandom()
        self.id = id if id is not None else self._random.randbytes(ID_BYTES)
        self.ephemeral = ephemeral
        self.bootstrap = tuple(bootstrap)
        self.bootstrapped = False
        """Whether the first walk for our own id is over."""
        self.table = RoutingTable(self.id)
        self.announcements = Announcements(self._random)
        self.values = Values()
        self._timers = timers
        self._send_bytes = send
        self._is_ours = is_ours
        self._tokens = Tokens(self._random.randbytes)
        self._allowance = Allowance(rates or Rates(), timers.now())
        self._favours = Allowance(rates or Rates(), timers.now())
        """What addresses are sent at others' word: nobody counts as proven there."""
        self._relaying = Allowance(_RELAYING, timers.now())
        """What is passed on for one asker: whoever asks most is not to use up what those he wants are sent."""
        self._requests = Requests(timers, self._send, self._random)
        self._sent_to = SentTo()
        self._keeping = Keeping(self, timers)
        self.walks = 0
        """How many are under way."""
        self._repeated: set[Timer] = set()
        self._repeat(TICK_SECONDS, self._keeping.tick)
        self._repeat(ROTATION_SECONDS, self._tokens.rotate)
        self._repeat(GENERATION_SECONDS, self.announcements.age)
        self._closed = False
        if ephemeral and adaptive:
            self._adapt_later()

    def close(self) -> None:
        """Say nothing more, and give up what is asked."""
        self._closed = True
        self._keeping.close()
        for timer in self._repeated:
            timer.cancel()
        self._requests.close()

    # What others see of us

    @property
    def refused(self) -> int:
        """How many datagrams were not answered, for being too many."""
        return self._allowance.refused

    def public_address(self) -> Address | None:
        """Return where others see us, port included, if those heard of last agree."""
        return agreed_address(self._seen_at())

    def nat(self) -> Nat:
        """Return what is between us and others."""
        return nat_of(self._seen_at(), self._is_ours)

    def _seen_at(self) -> list[Address]:
        """Return where others see us, by those heard of last first."""
        contacts = self.table.latest(len(self.table))
        return [contact.sees_us_at for contact in contacts if contact.sees_us_at is not None]

    def join(self, done: Callable[[], None] = lambda: None) -> None:
        """Walk for our own id, so that the table fills with neighbours; ``done`` is called in any case."""

        def joined(_: WalkReport) -> None:
            self.bootstrapped = True
            done()

        if self.bootstrap or len(self.table):
            self.walk(FIND_NODE, self.id, done=joined)
        else:
            joined(WalkReport())

    def become_persistent(self) -> None:
        """Tell our id from now on, and make ourselves known."""
        self.ephemeral = False
        self.join()

    def consider_persistence(self) -> None:
        """Become persistent if strangers reach us; an adaptive node does so now and then by itself."""
        nat = self.nat()
        if nat is Nat.NONE:
            self._strangers_tried(reach_us=True)
        elif nat is Nat.FIXED:
            known = list(self.table)
            Trial(self, self._random.sample(known, len(known)), self._strangers_tried).start()

    def _strangers_tried(self, reach_us: bool) -> None:
        if reach_us and self.ephemeral and not self._closed:
            self.become_persistent()

    def _adapt(self) -> None:
        if self.ephemeral and not self._closed:
            self.consider_persistence()
            self._adapt_later()

    def _adapt_later(self) -> None:
        self._timers.after(self._random.uniform(*_EPHEMERAL_SECONDS), self._adapt)

    # Asking

    def walk(
        self,
        command: str,
        target: bytes,
        value: bytes | None = None,
        *,
        update: bool = False,
        query: bool = True,
        on_answer: Answered = lambda answer, address: None,
        done: Callable[[WalkReport], None] = lambda report: None,
    ) -> Walk:
        """Walk to ``target`` with a command; return the walk, which may be cancelled.

        ``query`` asks the command on the way, otherwise only for nearer nodes; ``update`` makes an UPDATE of it for the
        20 nearest. ``on_answer`` is called for each answer that is no error, ``done`` once at the end.
        """
        self.walks += 1

        def over(report: WalkReport) -> None:
            self.walks -= 1
            done(report)

        asker = _WalkAsker(self, command if query else FIND_NODE, command, target, value)
        walk = Walk(target, self.id, asker, updates=update, on_answer=on_answer, done=over)
        closest = self.table.closest(target)
        # Who knows fewer than a walk wants may know none but those that tell of nobody, or of nobody there is.
        bootstrap = self.bootstrap if len(closest) < NEAREST else ()
        known = {contact.address for contact in closest}
        walk.start(node_addresses(closest), [address for address in bootstrap if address not in known])
        return walk

    def ping(self, asked: Asked, done: Callable[[Datagram | None], None], *, urgent: bool = False) -> None:
        """Ask a node whether it is there, and is who it was."""
        self.request(Kind.QUERY, PING, asked, done, value=asked.id, urgent=urgent)

    def holepunch(self, to: Address, referrer: Address, done: Callable[[Address | None], None]) -> Asked:
        """Open the way between us and ``to`` with the help of ``referrer``; return what `give_up` takes.

        ``done`` is told from where he answered, None when he did not. That may be another port than ``to``'s: a NAT
        may have one for each place that is sent to.
        """
        asked = Asked(to, referrer=referrer)

        def answered(answer: Datagram | None) -> None:
            done(None if answer is None else asked.answered_from)

        self.request(Kind.QUERY, HOLEPUNCH, asked, answered, urgent=True)
        return asked

    def give_up(self, asked: Asked) -> None:
        """Ask no more for an answer."""
        self._requests.give_up(asked)

    def find(self, contact: Contact, done: Callable[[Datagram | None], None]) -> None:
        """Ask a node for those near to a target of no meaning; ``done`` gets the answer, or None for none."""
        target = self._random.randbytes(ID_BYTES)
        self.request(Kind.QUERY, FIND_NODE, Asked(contact.address, contact.id), done, target=target)

    def hear(self, stranger: Address, referrer: Address, done: Callable[[bool], None]) -> None:
        """Have ``referrer`` tell ``stranger`` to answer us, whom nothing is sent; ``done`` is told whether he did."""
        self._requests.hear(stranger, referrer, self._told_id, done)

    def is_stranger(self, host: str) -> bool:
        """Tell whether ``host`` was sent nothing lately."""
        return not self._sent_to.may_include(host, self._timers.now())

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer, but for those to whoever was silent already."""
        return self._requests.in_flight

    @property
    def silent(self) -> Collection[Address]:
        """Where somebody was asked something just now, and again, and has not answered."""
        return self._requests.silent

    def when_free(self, call: Callable[[], None]) -> None:
        """Have ``call`` called when something more may be asked, and it is its turn."""
        self._requests.when_free(call)

    def request(
        self,
        kind: Kind,
        command: str,
        asked: Asked,
        done: Callable[[Datagram | None], None],
        *,
        silent: Callable[[], None] = lambda: None,
        target: bytes | None = None,
        value: bytes | None = None,
        urgent: bool = False,
    ) -> None:
        """Send one request; ``done`` gets the answer, or None when there is none in 7 s; ``silent`` after 2 s."""

        def answered(answer: Datagram | None) -> None:
            is_another = answer is not None and answer.id != asked.id
            if asked.id is not None and (asked.unanswered or is_another):
                self._keeping.forget(asked.id, asked.address)
            done(answer)

        datagram = Datagram(
            kind,
            0,
            id=self._told_id,
            target=target,
            token=asked.token if kind is Kind.UPDATE else None,
            command=command,
            value=value,
            to=asked.address,
        )
        self._requests.ask(datagram, asked, answered, silent=silent, urgent=urgent)

    # What comes

    def receive(self, data: bytes, source: Address) -> None:
        """Take a datagram that came from ``source``. What is malformed, or too much, is not answered."""
        if self._closed or not 0 < source.port < 1 << 16:
            return
        datagram = decode(data)
        if datagram is None:
            return
        now = self._timers.now()
        if datagram.kind is Kind.RESPONSE:
            asked = self._requests.answered(datagram, source)
            if asked is not None:
                self._allowance.proven(source.host, now)
                if asked.id is None or asked.id == datagram.id:
                    self._keeping.heard(datagram, source)
            return
        if datagram.kind is Kind.UPDATE:
            if not self._tokens.check(datagram.token, source.host):
                return
            self._allowance.proven(source.host, now)
        if not self._allowance.may_answer(source.host, now):
            return
        self._keeping.asked_by(datagram, source)
        self._serve(datagram, source)

    def _serve(self, asked: Datagram, source: Address) -> None:
        if asked.command == PING:
            if asked.value is None or asked.value == self.id:
                self._answer(asked, source, encode_address(source), closer=False)
        elif asked.command == HOLEPUNCH:
            self._serve_holepunch(asked, source)
        elif asked.target is None:
            return
        elif asked.command == FIND_NODE:
            self._answer(asked, source, None)
        elif asked.command == PEERS:
            self._serve_peers(asked, asked.target, source)
        elif asked.command == IMMUTABLE:
            self._serve_immutable(asked, asked.target, source)
        elif asked.command == MUTABLE:
            self._serve_mutable(asked, asked.target, source)
        else:
            self._refuse(asked, source, "Unsupported command")

    def _serve_holepunch(self, asked: Datagram, source: Address) -> None:
        value = Holepunch.decode(asked.value)
        if value is None:
            return
        if value.to is not None:
            if (
                value.to != source
                and self._is_known(value.to)
                and self._relaying.may_answer(source.host, self._timers.now())
                and self._may_trouble(value.to, source)
            ):
                relayed = Holepunch(sender=source).encode()
                self._send(
                    Datagram(Kind.QUERY, asked.rid, id=self._told_id, command=HOLEPUNCH, value=relayed, to=value.to),
                    value.to,
                )
        elif value.sender is None:
            self._answer(asked, source, None, closer=False)
        elif self._may_trouble(value.sender, source):
            self._answer(asked, value.sender, None, closer=False)

    def _is_known(self, address: Address) -> bool:
        """Tell whether somebody at ``address`` lately showed that he is there."""
        return self._allowance.is_proven(address.host, self._timers.now()) or any(
            contact.address == address for contact in self.table
        )

    def _may_trouble(self, third: Address, source: Address) -> bool:
        """Tell whether ``third`` may be sent something because ``source`` says so, and count that."""
        return may_dial(third, told_by=source.host, own=()) and self._favours.may_answer(third.host, self._timers.now())

    def _serve_peers(self, asked: Datagram, topic: bytes, source: Address) -> None:
        value = None if asked.value is None else PeersInput.decode(asked.value)
        if value is None:
            self._refuse(asked, source, INVALID_INPUT)
        elif value.port >= 1 << 16:
            self._refuse(asked, source, "Invalid port")
        elif asked.kind is Kind.UPDATE:
            self.announcements.update(topic, value, source)
            self._answer(asked, source, None)
        else:
            self._answer(asked, source, self.announcements.told(topic, value, source).encode())

    def _serve_immutable(self, asked: Datagram, target: bytes, source: Address) -> None:
        if asked.kind is Kind.QUERY:
            self._answer(asked, source, self.values.immutable(target))
            return
        error = INVALID_INPUT if asked.value is None else self.values.put_immutable(target, asked.value)
        if error is not None:
            self._refuse(asked, source, error)
        else:
            self._answer(asked, source, None)

    def _serve_mutable(self, asked: Datagram, target: bytes, source: Address) -> None:
        value = None if asked.value is None else Mutable.decode(asked.value)
        if value is None:
            self._refuse(asked, source, INVALID_INPUT)
            return
        if asked.kind is Kind.QUERY:
            found = self.values.mutable(target, value)
            self._answer(asked, source, None if found is None else found.encode())
            return
        error, there = self.values.put_mutable(target, value)
        if error is not None:
            self._refuse(asked, source, error, None if there is None else there.encode())
        else:
            self._answer(asked, source, None)

    def _answer(self, asked: Datagram, to: Address, value: bytes | None, *, closer: bool = True) -> None:
        nearest = self._nearest(asked.target) if closer else b""
        token = self._tokens.make(to.host)
        self._send(
            Datagram(Kind.RESPONSE, asked.rid, id=self._told_id, closer=nearest, token=token, value=value, to=to), to
        )

    def _refuse(self, asked: Datagram, to: Address, error: str, value: bytes | None = None) -> None:
        nearest = self._nearest(asked.target)
        self._send(
            Datagram(Kind.RESPONSE, asked.rid, id=self._told_id, closer=nearest, error=error, value=value, to=to), to
        )

    def _nearest(self, target: bytes | None) -> bytes:
        return b"" if target is None else encode_nodes(node_addresses(self.table.closest(target)))

    @property
    def _told_id(self) -> bytes | None:
        return None if self.ephemeral else self.id

    def _send(self, datagram: Datagram, to: Address) -> None:
        if not self._closed:
            self._sent_to.note(to.host, self._timers.now())
            self._send_bytes(encode(datagram), to)

    def _repeat(self, seconds: float, call: Callable[[], None]) -> None:
        def again() -> None:
            self._repeated.discard(timer)
            if not self._closed:
                self._repeat(seconds, call)
                call()

        timer = self._timers.after(seconds, again)
        self._repeated.add(timer)


class _WalkAsker:
    """What a walk asks, of one node's requests."""

    def __init__(self, node: DhtNode, query: str, update: str, target: bytes, value: bytes | None) -> None:
        self._node = node
        self._query = query
        self._update = update
        self._target = target
        self._value = value

    @property
    def in_flight(self) -> int:
        return self._node.in_flight

    @property
    def silent(self) -> Collection[Address]:
        return self._node.silent

    def when_free(self, call: Callable[[], None]) -> None:
        self._node.when_free(call)

    def give_up(self, asked: Asked) -> None:
        self._node.give_up(asked)

    def ask(
        self,
        asked: Asked,
        done: Callable[[Datagram | None], None],
        *,
        silent: Callable[[], None],
        update: bool,
    ) -> None:
        command = self._update if update else self._query
        value = None if command == FIND_NODE else self._value
        kind = Kind.UPDATE if update else Kind.QUERY
        self._node.request(kind, command, asked, done, silent=silent, target=self._target, value=value)
