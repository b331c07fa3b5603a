"""The `hypertrie` extension: what is asked, what is answered, and what hostile messages cost."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.core.reader import Hint
from hyperfs.trie import Header, NodeCache, Put, Trie, encode_batch, extension, messages_pb2
from hyperfs.trie.extension import Answer, GetQuestion, IteratorQuestion
from hyperfs.trie.iterator import Walk
from hyperfs.trie.paths import Hashing, Path
from tests.support.sparse_core import SparseCore

FILES = [f"dir{number % 5}/file{number}" for number in range(3000)]
HEAD = len(FILES)


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    async def make() -> list[bytes]:
        core = SparseCore([Header().encode()])
        return core.blocks + await encode_batch(Trie(core, 1, NodeCache()), [Put(key, b"v") for key in FILES])

    return trio.run(make)


@pytest.fixture
def core(blocks: list[bytes]) -> SparseCore:
    return SparseCore(blocks)


def answered(core: SparseCore, question: GetQuestion | IteratorQuestion) -> list[int]:
    named: list[int] = []
    for payload in filter(None, extension.answer(core, question, NodeCache())):
        [answer] = extension.parse(payload)
        assert isinstance(answer, Answer)
        assert len(answer.blocks) <= extension.BLOCKS_PER_ANSWER
        named += answer.blocks
    return named


async def read_by_get(core: SparseCore, key: str) -> set[int]:
    reader = SparseCore(core.blocks, held=[])
    await Trie(reader, reader.length, NodeCache()).get(key)
    return reader.fetched


async def test_the_answer_to_a_lookup_is_what_the_lookup_reads(core: SparseCore) -> None:
    assert set(answered(core, GetQuestion(HEAD, "dir1/file1001"))) == await read_by_get(core, "dir1/file1001")


async def test_the_answer_to_a_lookup_of_what_is_not_there_is_what_it_reads(core: SparseCore) -> None:
    assert set(answered(core, GetQuestion(HEAD, "dir1/nothing"))) == await read_by_get(core, "dir1/nothing")


def test_the_answer_to_an_iteration_has_a_bound(core: SparseCore) -> None:
    assert len(answered(core, IteratorQuestion(HEAD, "", 1, None))) == extension.BLOCKS_PER_QUESTION


async def test_the_answer_to_a_flat_listing_is_what_it_reads(core: SparseCore) -> None:
    reader = SparseCore(core.blocks, held=[])
    async for _ in Trie(reader, reader.length, NodeCache()).iterate("dir2", recursive=False):
        pass
    assert set(answered(core, IteratorQuestion(HEAD, "dir2", 0, None))) == reader.fetched


async def test_an_answer_goes_on_from_a_checkpoint(core: SparseCore) -> None:
    trie = Trie(core, core.length, NodeCache())
    iterator = trie.iterate()
    first: list[int] = []
    while len(first) < 2000:
        first += [node.seq for node in await iterator.next_batch(2000 - len(first))]
    stack = iterator.checkpoint()
    assert stack is not None
    named = answered(core, IteratorQuestion(0, "", 1, extension.encode_checkpoint(stack)))
    assert set(range(1, HEAD + 1)) - set(first) <= set(named)


def test_an_answer_ends_at_the_first_block_that_is_not_here(blocks: list[bytes]) -> None:
    core = SparseCore(blocks, held=[HEAD])
    assert answered(core, GetQuestion(HEAD, "dir1/file1001")) == [HEAD]


@pytest.mark.parametrize("head", [0, HEAD + 1, 2**63])
def test_a_head_that_is_not_here_gets_no_answer(core: SparseCore, head: int) -> None:
    assert answered(core, GetQuestion(head, "dir1/file1001")) == []


def test_little_is_done_between_two_steps_of_an_answer(core: SparseCore) -> None:
    reads = 0
    longest = 0
    for _ in extension.answer(core, IteratorQuestion(HEAD, "", 1, None), NodeCache()):
        longest = max(longest, len(core.read_blocks) - reads)
        reads = len(core.read_blocks)
    assert reads >= extension.BLOCKS_PER_QUESTION
    assert longest <= 100


def test_a_key_of_more_parts_than_any_path_gets_no_answer(core: SparseCore) -> None:
    assert answered(core, GetQuestion(HEAD, "a/" * 30_000)) == []


def test_an_older_head_is_answered_from(core: SparseCore) -> None:
    assert answered(core, GetQuestion(1, "dir0/file0")) == [1]


def test_a_checkpoint_that_names_one_subtree_thousands_of_times_costs_no_more(core: SparseCore) -> None:
    stack = [(1, HEAD)] * 4000
    named = answered(core, IteratorQuestion(0, "", 1, extension.encode_checkpoint(stack)))
    assert len(named) <= extension.BLOCKS_PER_QUESTION


@pytest.mark.parametrize("checkpoint", [b"\xff", b"\x01", b"\x01\x00", b"\x01\xff\xff\x7f", b"\x01\x01" * 5000])
def test_a_checkpoint_that_cannot_be_gets_no_answer(core: SparseCore, checkpoint: bytes) -> None:
    assert answered(core, IteratorQuestion(HEAD, "", 1, checkpoint)) == []


def test_questions_survive_the_wire() -> None:
    hint = extension.get_question(7, "é/b")
    assert isinstance(hint, Hint)
    assert hint.extension == "hypertrie"
    assert extension.parse(hint.payload) == [GetQuestion(7, "é/b")]
    path = Path.of("dir", Hashing(), hidden=True)
    question = extension.iterator_question(7, path, Walk(recursive=False, reverse=True, gt=True), [(300, 5)])
    assert extension.parse(question.payload) == [IteratorQuestion(7, "dir", 2 | 4 | 8, b"\xac\x02\x05")]


def test_the_empty_key_is_not_asked_for() -> None:
    assert extension.get_question(7, "") is None


def test_an_iterator_without_key_and_checkpoint_is_no_question() -> None:
    message = messages_pb2.Extension(iterator=messages_pb2.Extension.Iterator(head=3))
    assert extension.parse(message.SerializeToString()) == []


def test_a_list_of_any_size_is_cut() -> None:
    payload = extension.encode_answer(list(range(10_000)))
    assert extension.parse(payload) == [Answer(tuple(range(extension.BLOCKS_PER_QUESTION)))]


def test_a_message_larger_than_any_honest_one_is_dropped() -> None:
    assert extension.parse(extension.encode_answer([2**60] * 20_000)) == []


@given(st.binary(max_size=200))
def test_random_bytes_are_no_message_or_one(payload: bytes) -> None:
    assert isinstance(extension.parse(payload), list)
