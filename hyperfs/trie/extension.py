"""The `hypertrie` channel extension, which saves round trips: questions, and both ends of answering them.

Whatever a peer sends costs a bounded amount of memory and work, and is only ever taken for a list of blocks that might
be worth downloading.

The asker tells what it is about to look up; the other side answers with the blocks that the lookup will read; the asker
downloads those at once. Format: docs/formats.md, "The trie".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import DecodeError

from hyperfs import varint
from hyperfs.core.reader import CoreReader, Hint
from hyperfs.errors import DamagedTrie, EncodingError
from hyperfs.trie import messages_pb2
from hyperfs.trie.cache import NodeCache
from hyperfs.trie.iterator import NodeIterator, Stack, Walk
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import find
from hyperfs.trie.node import Node
from hyperfs.trie.paths import Path

NAME = "hypertrie"
BLOCKS_PER_ANSWER = 128
BLOCKS_PER_QUESTION = 2176
"""At most this many blocks come from one question, in answers of `BLOCKS_PER_ANSWER`."""
CACHE_BYTES = 4 << 20
"""Nodes that are kept decoded to answer questions."""
MAX_MESSAGE_BYTES = 128 * 1024
"""Longer messages are no honest ones: the longest key and checkpoint, or answer, are well below."""
_MAX_CHECKPOINT_ENTRIES = 4096
_VISITS_PER_QUESTION = 2 * BLOCKS_PER_QUESTION
_QUESTION_ALLOWANCE = 1000

_RECURSIVE = 1
_REVERSE = 2
_GT = 4
_HIDDEN = 8


@dataclass(frozen=True, slots=True)
class GetQuestion:
    """Which blocks a lookup of ``key`` reads in the trie whose newest node is block ``head``."""

    head: int
    key: str


@dataclass(frozen=True, slots=True)
class IteratorQuestion:
    """Which blocks an iteration reads. ``checkpoint`` is its stack, from which it goes on."""

    head: int
    key: str
    flags: int
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Blocks worth downloading, as a peer says: at most `BLOCKS_PER_QUESTION`, and not checked further."""

    blocks: tuple[int, ...]


class HypertrieExtension:
    """The extension as a `hyperfs.replication.Replicator` is given it; see `hyperfs.replication.extensions`."""

    name = NAME
    blocks_per_question = BLOCKS_PER_QUESTION

    def __init__(self) -> None:
        self._cache = NodeCache(CACHE_BYTES)

    def receive(self, core: CoreReader, payload: bytes) -> tuple[list[int], list[Iterator[bytes | None]]]:
        """Return the blocks that a peer's message says are worth downloading, and the work on each of its questions."""
        blocks: list[int] = []
        questions: list[Iterator[bytes | None]] = []
        for message in parse(payload):
            if isinstance(message, Answer):
                blocks += message.blocks
            else:
                questions.append(answer(core, message, self._cache))
        return blocks, questions


def get_question(head: int, key: str) -> Hint | None:
    """Return the question to send with the first missing block of a lookup; none for the empty key, never answered."""
    if not key:
        return None
    message = messages_pb2.Extension(get=messages_pb2.Extension.Get(head=head, key=key.encode()))
    return Hint(NAME, message.SerializeToString())


def iterator_question(head: int, path: Path, walk: Walk, stack: Stack | None) -> Hint:
    """Return the question to send with a missing block of an iteration."""
    flags = _RECURSIVE * walk.recursive | _REVERSE * walk.reverse | _GT * walk.gt | _HIDDEN * path.hidden
    question = messages_pb2.Extension.Iterator(head=head, key=path.key.encode(), flags=flags)
    if stack is not None:
        question.checkpoint = encode_checkpoint(stack)
    return Hint(NAME, messages_pb2.Extension(iterator=question).SerializeToString())


def parse(payload: bytes) -> list[GetQuestion | IteratorQuestion | Answer]:
    """Return what an extension message says, in the order cache, iterator, get; nothing for what is not one."""
    if len(payload) > MAX_MESSAGE_BYTES:
        return []
    try:
        message = messages_pb2.Extension.FromString(payload)
    except DecodeError:
        return []
    parsed: list[GetQuestion | IteratorQuestion | Answer] = []
    if message.HasField("cache"):
        blocks = message.cache.blocks[:BLOCKS_PER_QUESTION]
        if blocks:
            parsed.append(Answer(tuple(blocks)))
    if message.HasField("iterator"):
        asked = message.iterator
        checkpoint = asked.checkpoint if asked.HasField("checkpoint") else None
        if asked.HasField("key") or checkpoint is not None:
            flags = asked.flags if asked.HasField("flags") else _RECURSIVE
            parsed.append(IteratorQuestion(asked.head, _text(asked.key), flags, checkpoint))
    if message.HasField("get") and message.get.key:
        parsed.append(GetQuestion(message.get.head, _text(message.get.key)))
    return parsed


def answer(core: CoreReader, question: GetQuestion | IteratorQuestion, cache: NodeCache) -> Iterator[bytes | None]:
    """Yield the messages that answer ``question`` with blocks that are here, ending at the first that is not.

    Between two results about a millisecond's work is done, so that the caller may let others run; None stands for such
    a piece of work that has not led to a message.
    """
    batch: list[int] = []
    for block in blocks_of(core, question, cache):
        if block is None:
            yield None
            continue
        batch.append(block)
        if len(batch) == BLOCKS_PER_ANSWER:
            yield encode_answer(batch)
            batch = []
    if batch:
        yield encode_answer(batch)


def encode_answer(blocks: list[int]) -> bytes:
    """Return the message that names ``blocks`` (at least one)."""
    cache = messages_pb2.Extension.Cache(start=min(blocks), end=max(blocks) + 1, blocks=blocks)
    return messages_pb2.Extension(cache=cache).SerializeToString()


def blocks_of(core: CoreReader, question: GetQuestion | IteratorQuestion, cache: NodeCache) -> Iterator[int | None]:
    """Yield the blocks that ``question`` reads, each once, at most `BLOCKS_PER_QUESTION`, and None as `answer` does."""
    newest = core.length - 1
    head = question.head
    if isinstance(question, IteratorQuestion) and not question.key:
        head = newest
    if not 1 <= head <= newest:
        return
    loader = _Recorder(core, cache)
    try:
        path = Path.of(question.key, cache.hashing, hidden=_hidden(question))
        yield None
        if isinstance(question, GetQuestion):
            walk: Callable[[], object] = partial(find, loader, head, path)
        else:
            walk = partial(_iterator(loader, question, head, path).advance, BLOCKS_PER_ANSWER)
            yield None
        yield from _carried_out(loader, walk, to_its_end=isinstance(question, IteratorQuestion))
    except (DamagedTrie, EncodingError, _Exhausted):
        pass
    yield from loader.take()


def _carried_out(loader: "_Recorder", walk: Callable[[], object], *, to_its_end: bool) -> Iterator[int | None]:
    """Yield what ``walk`` reads, with rests, until it is done, or cannot go on with what is here."""
    before = None
    while True:
        loader.allowance = _QUESTION_ALLOWANCE
        try:
            found = walk()
        except MissingNodes as missing:
            # What is here and needs more than one allowance is no honest node.
            if loader.allowance > 0 or missing.seqs == before:
                return
            before = missing.seqs
        else:
            if not (to_its_end and found):
                return
        yield from loader.take()
        yield None


def _hidden(question: GetQuestion | IteratorQuestion) -> bool:
    return isinstance(question, IteratorQuestion) and bool(question.flags & _HIDDEN)


def _iterator(loader: "_Recorder", question: IteratorQuestion, head: int, path: Path) -> NodeIterator:
    flags = question.flags
    walk = Walk(recursive=bool(flags & _RECURSIVE), reverse=bool(flags & _REVERSE), gt=bool(flags & _GT))
    iterator = NodeIterator(loader, head, path, walk)
    if question.checkpoint is not None:
        iterator.resume(decode_checkpoint(question.checkpoint, head))
    return iterator


def decode_checkpoint(checkpoint: bytes, head: int) -> Stack:
    """Return the entries ``(position, seq)`` of an iteration's stack. Raises `EncodingError` for what cannot be one."""
    entries: Stack = []
    offset = 0
    while offset < len(checkpoint):
        position, offset = varint.decode(checkpoint, offset)
        seq, offset = varint.decode(checkpoint, offset)
        if not 1 <= seq <= head or len(entries) == _MAX_CHECKPOINT_ENTRIES:
            raise EncodingError("not a checkpoint of an iteration")
        entries.append((position, seq))
    return entries


def encode_checkpoint(entries: Stack) -> bytes:
    """Return the bytes of an iteration's stack, the next entry last."""
    return b"".join(varint.encode(position) + varint.encode(seq) for position, seq in entries)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


class _Exhausted(Exception):
    """A question has brought all that one question may."""


class _Recorder(Loader):
    """Loads what is here, and remembers what was asked for."""

    __slots__ = ("_seen", "_taken", "_visits")

    def __init__(self, core: CoreReader, cache: NodeCache) -> None:
        super().__init__(core, cache)
        self._seen: dict[int, None] = {}
        self._taken = 0
        self._visits = 0
        self.cached = self.find

    def find(self, seq: int) -> Node | None:
        self._visits += 1
        if len(self._seen) >= BLOCKS_PER_QUESTION or self._visits > _VISITS_PER_QUESTION:
            raise _Exhausted
        node = super().find(seq)
        if node is not None:
            self._seen[seq] = None
        return node

    def take(self) -> list[int]:
        """Return what was found since the last time."""
        found = list(self._seen)[self._taken :]
        self._taken = len(self._seen)
        return found
