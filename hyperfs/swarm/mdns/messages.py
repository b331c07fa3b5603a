"""The two messages by which peers of one network find each other: a question for a topic, and an answer.

The one rule: what is read of a message is what docs/formats.md names, and anything else in it, or in its place, is
nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.SRV
import dns.rrset

from hyperfs.swarm.addresses import Address

PORT: Final = 5353
GROUP: Final = "224.0.0.251"
MAX_MESSAGE_BYTES: Final = 9000
ID_BYTES: Final = 32
NAME_BYTES: Final = 20
"""How much of a topic is in its name."""
_DOMAIN: Final = dns.name.from_text("hyperswarm.local.")
_LABEL: Final = b"\x0ahyperswarm"
_REFERRER: Final = dns.name.from_text("referrer.hyperswarm.local.")
_ID_PREFIX: Final = b"id="
_SENDER: Final = "0.0.0.0"
_MAX_QUESTIONS: Final = 64
_MAX_ANSWERS: Final = 256


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody asks who has a topic, named by its first 20 bytes. ``id`` is that of who would not be answered."""

    name: bytes
    id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Somebody has a topic, at ``port`` of ``host`` (None: where the answer came from); ``id`` is his."""

    name: bytes
    port: int
    host: str | None = None
    id: bytes | None = None


def question(names: Iterable[bytes]) -> bytes:
    """Return the message that asks for topics by their 20-byte names."""
    message = dns.message.Message(id=0)
    message.flags = dns.flags.Flag(0)
    message.question = [dns.rrset.RRset(_domain(name), dns.rdataclass.IN, dns.rdatatype.SRV) for name in names]
    return message.to_wire()


def answer(answers: Iterable[Answer], asker: str | None) -> bytes:
    """Return the message that answers; ``asker`` is the address that asked, None when nobody did."""
    message = dns.message.Message(id=0)
    message.flags = dns.flags.QR | dns.flags.AA
    for one in answers:
        domain = _domain(one.name)
        srv = f"0 0 {one.port} {one.host or _SENDER}."
        message.answer.append(dns.rrset.from_text(domain, 0, dns.rdataclass.IN, dns.rdatatype.SRV, srv))
        if one.id is not None:
            txt = dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, [_ID_PREFIX + one.id])
            message.answer.append(dns.rrset.from_rdata(domain, 0, txt))
    if asker is not None:
        message.answer.append(dns.rrset.from_text(_REFERRER, 0, dns.rdataclass.IN, dns.rdatatype.A, asker))
    return message.to_wire()


def parse(data: bytes) -> list[Question | Answer]:
    """Return the questions, or the answers, of a message; nothing of one that is malformed or about other things."""
    if len(data) > MAX_MESSAGE_BYTES or _LABEL not in data.lower():  # most of what is said is of other things
        return []
    try:
        message = dns.message.from_wire(data, ignore_trailing=True, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError):
        return []
    ids = {}
    for rrset in message.answer[:_MAX_ANSWERS]:
        name = _name(rrset.name)
        txt = rrset[0]
        if name is not None and isinstance(txt, dns.rdtypes.ANY.TXT.TXT):
            strings = txt.strings
            if strings and strings[0].startswith(_ID_PREFIX):
                ids[name] = strings[0].removeprefix(_ID_PREFIX)
    if not message.flags & dns.flags.QR:
        asked = [_name(rrset.name) for rrset in message.question[:_MAX_QUESTIONS] if rrset.rdtype == dns.rdatatype.SRV]
        return [Question(name, ids.get(name)) for name in asked if name is not None]
    found: list[Question | Answer] = []
    for rrset in message.answer[:_MAX_ANSWERS]:
        name = _name(rrset.name)
        srv = rrset[0]
        if name is not None and isinstance(srv, dns.rdtypes.IN.SRV.SRV):  # of another class it is bytes, unparsed
            host = srv.target.to_text(omit_final_dot=True)
            if srv.port and _is_ipv4(host):
                found.append(Answer(name, srv.port, None if host == _SENDER else host, ids.get(name)))
    return found


def address_of(found: Answer, sender: str) -> Address:
    """Return where an answer that came from ``sender`` says that somebody is."""
    return Address(found.host or sender, found.port)


def _domain(name: bytes) -> dns.name.Name:
    return dns.name.Name([name.hex().encode()]).concatenate(_DOMAIN)


def _name(domain: dns.name.Name) -> bytes | None:
    """Return the 20 bytes of a topic in a domain name, None when it is another name."""
    if len(domain.labels) != len(_DOMAIN.labels) + 1 or not domain.is_subdomain(_DOMAIN):
        return None
    try:
        name = bytes.fromhex(domain.labels[0].decode("ascii"))
    except ValueError:
        return None
    return name if len(name) == NAME_BYTES else None


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
