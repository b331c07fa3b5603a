"""One node of a trie, and its bytes.

A node that is decoded holds the links exactly as they were written; each walk checks those it follows.

The links stay in the form that the block has them in, ``words``: the number of positions, then for each position with
anything in it the position, the bit mask of its slots, and a sequence number for each. Format: docs/formats.md, "The
trie".
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError

from hyperfs import varint
from hyperfs.errors import DamagedTrie, EncodingError
from hyperfs.trie import messages_pb2, paths

HIDDEN_FLAG = 1
USER_FLAGS_SHIFT = 8

_LARGE_BLOCK_BYTES = 16 << 10
_MAX_FIELDS = 64
_LINKS_FIELD = 3
_WORDS_PER_PART = 32 * 7 + 33
"""Words that a writer makes for one part at most: 32 buckets of five slots, one of 31 where the part ends."""
MAX_WORDS = 1 << 16
"""Words of any node: 32 for each part of the deepest path."""
_CONTINUED = bytes(range(0x80, 0x100))

_NodeMessage = messages_pb2.Node
_NO_LINKS = array("I", (0,))


@dataclass(slots=True, eq=False)
class Node:
    """One entry of a trie as block ``seq`` has it. Shared by all readers of a process: never changed after decoding.

    ``key`` is the text that was put (less one leading slash), ``value`` None where none was put, ``flags`` the user's.
    A node with an empty key marks an empty trie.
    """

    key: str
    value: bytes | None
    seq: int
    flags: int
    hidden: bool
    digits: int = field(repr=False)
    """The path's digits as `hyperfs.trie.paths` numbers them, the hidden one included."""
    count: int = field(repr=False)
    """How many parts the key has."""
    words: Sequence[int] = field(repr=False)
    """The links, as the module describes."""
    cost: int = field(default=1, repr=False)
    """About how many microseconds it takes to look into it."""

    @property
    def parts(self) -> list[str]:
        """The parts of the key."""
        return paths.split(self.key)

    @property
    def length(self) -> int:
        """How many digits the path has."""
        return paths.DIGITS_PER_PART * self.count + 2

    def digit(self, position: int) -> int:
        """Return the path's digit at ``position``."""
        return paths.digit(self.digits, self.count, position)


class Entry(NamedTuple):
    """What a block puts, without its links: ``key``, ``value``, ``flags`` and ``hidden`` as a `Node` has them."""

    key: str
    value: bytes | None
    flags: int
    hidden: bool


def decode_entry(block: bytes, seq: int) -> Entry:
    """Return what `decode` would find in ``block``, number ``seq``, of what it puts; three times as fast.

    Raises `DamagedTrie` as it does, but for what is wrong with the links alone.
    """
    message, key = _parse(block, seq)
    flags = message.flags
    return Entry(key, _value_of(message), flags >> USER_FLAGS_SHIFT, flags & HIDDEN_FLAG == 1)


def decode(block: bytes, seq: int, hashing: paths.Hashing) -> Node:
    """Return the node in ``block``, number ``seq``; raise `DamagedTrie` when it is none.

    The sequence number that the block states is not read: a node is where it is. What is too large to be a node is
    refused before it is parsed.
    """
    message, key = _parse(block, seq)
    try:
        digits, count = hashing.digits(key)
    except EncodingError as error:
        raise DamagedTrie(f"block {seq} is no trie node: {error}") from error
    words: Sequence[int] = message.trieBuffer[:]
    if len(words) > _most_words(count):
        raise DamagedTrie(f"the node in block {seq} has {len(words)} words of links, more than its key has places for")
    try:
        words = array("I", words) if words else _NO_LINKS
    except OverflowError:
        words = array("Q", words)
    flags = message.flags
    hidden = flags & HIDDEN_FLAG
    cost = 1 + (len(words) >> 4) + (count >> 3)
    return Node(
        key, _value_of(message), seq, flags >> USER_FLAGS_SHIFT, hidden == 1, digits | hidden, count, words, cost
    )


def _parse(block: bytes, seq: int) -> tuple[messages_pb2.Node, str]:
    """Return the message in a block, and its key as text. Raises `DamagedTrie`."""
    if len(block) > _LARGE_BLOCK_BYTES:
        _check_size(block, seq)
    try:
        message = _NodeMessage.FromString(block)
    except DecodeError as error:
        raise DamagedTrie(f"block {seq} is not a trie node") from error
    raw_key = message.key
    if len(raw_key) > paths.MAX_KEY_BYTES:
        raise DamagedTrie(f"the key in block {seq} has {len(raw_key)} bytes, more than {paths.MAX_KEY_BYTES}")
    # What is not UTF-8 is read as the reference reads it, and so hashed as its readers hash it.
    key = raw_key.decode("utf-8", "replace")
    return message, key[1:] if key[:1] == "/" else key


def _value_of(message: messages_pb2.Node) -> bytes | None:
    value: bytes = message.valueBuffer
    return value if value or message.HasField("valueBuffer") else None


def _most_words(count: int) -> int:
    return min(MAX_WORDS, 64 + _WORDS_PER_PART * (count + 1))


def _check_size(block: bytes, seq: int) -> None:
    """Raise `DamagedTrie` for a large block with more links or more fields than a node has."""
    offset = 0
    fields = words = 0
    try:
        while offset < len(block) and fields <= _MAX_FIELDS and words <= MAX_WORDS:
            fields += 1
            tag, offset = varint.decode(block, offset)
            size, begin = varint.decode(block, offset)
            if tag & 7 == 2:
                offset = begin + size
                if tag >> 3 == _LINKS_FIELD:
                    words += len(block[begin:offset].translate(None, _CONTINUED))
            elif tag & 7 == 0:
                offset = begin
            else:
                break
        else:
            if fields <= _MAX_FIELDS and words <= MAX_WORDS:
                return
    except EncodingError as error:
        raise DamagedTrie(f"block {seq} is not a trie node") from error
    raise DamagedTrie(f"block {seq}, of {len(block)} bytes, is no trie node: it has more links or fields than any")


def encode(node: Node) -> bytes:
    """Return the bytes of ``node``'s block, as the reference writes them."""
    message = _NodeMessage(
        key=node.key.encode(),
        trieBuffer=node.words,
        seq=node.seq,
        flags=node.flags << USER_FLAGS_SHIFT | node.hidden,
    )
    if node.value is not None:
        message.valueBuffer = node.value
    return message.SerializeToString()
