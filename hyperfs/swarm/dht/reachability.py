"""How others reach us, by what they say of where they see us."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import islice
from typing import Final

from hyperfs.swarm.addresses import Address

_SAMPLES: Final = 10
_LEAST_AGREEING: Final = 3
_MOST_DISAGREEING: Final = 2


class Nat(Enum):
    """What is between us and others."""

    UNKNOWN = "unknown"
    """Too few have said where they see us."""
    NONE = "none"
    """Nothing: anybody reaches us where all see us."""
    FIXED = "fixed"
    """A router, that has one port for us: with a hole punched, anybody reaches us there."""
    VARYING = "varying"
    """A router that has another port for each whom we send to: few can reach us."""


def agreed_address(seen: Iterable[Address]) -> Address | None:
    """Return the address at which most of those who said something last, and so come first, see us, if they agree."""
    sample = Counter(islice(seen, _SAMPLES))
    if not sample:
        return None
    address, agreeing = sample.most_common(1)[0]
    disagreeing = sample.total() - agreeing
    return address if agreeing >= _LEAST_AGREEING and disagreeing <= _MOST_DISAGREEING else None


def nat_of(seen: list[Address], is_ours: Callable[[str], bool]) -> Nat:
    """Return what is between us and those who see us at ``seen``; ``is_ours`` tells whether this host has one."""
    address = agreed_address(seen)
    if address is not None:
        return Nat.NONE if is_ours(address.host) else Nat.FIXED
    return Nat.VARYING if len(seen) >= _LEAST_AGREEING else Nat.UNKNOWN
