"""One node of a trie, and its bytes.

The rule: a node that is decoded holds the links exactly as they were written; each walk checks those it follows.

The links stay in the form that the block has them in, ``words``: the number of positions, then for each position with
anything in it the position, the bit mask of its slots, and a sequence number for each. Format: docs/formats.md, "The
trie".
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from hyperfs.errors import DamagedTrie
from hyperfs.trie import messages_pb2, paths

HIDDEN_FLAG = 1
USER_FLAGS_SHIFT = 8

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


def decode(block: bytes, seq: int, hashing: paths.Hashing) -> Node:
    """Return the node in ``block``, number ``seq``; raise `DamagedTrie` when it is none.

    The sequence number that the block states is not read: a node is where it is.
    """
    try:
        message = _NodeMessage.FromString(block)
    except DecodeError as error:
        raise DamagedTrie(f"block {seq} is not a trie node") from error
    raw_key = message.key
    if len(raw_key) > paths.MAX_KEY_BYTES:
        raise DamagedTrie(f"the key in block {seq} has {len(raw_key)} bytes, more than {paths.MAX_KEY_BYTES}")
    # What is not UTF-8 is read as the reference reads it, and so hashed as its readers hash it.
    key = raw_key.decode("utf-8", "replace")
    if key[:1] == "/":
        key = key[1:]
    digits, count = hashing.digits(key)
    words: Sequence[int] = message.trieBuffer[:]
    try:
        words = array("I", words) if words else _NO_LINKS
    except OverflowError:
        words = array("Q", words)
    flags = message.flags
    hidden = flags & HIDDEN_FLAG
    value = message.valueBuffer
    if not value and not message.HasField("valueBuffer"):
        return Node(key, None, seq, flags >> USER_FLAGS_SHIFT, hidden == 1, digits | hidden, count, words)
    return Node(key, value, seq, flags >> USER_FLAGS_SHIFT, hidden == 1, digits | hidden, count, words)


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
