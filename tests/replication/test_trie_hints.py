"""The `hypertrie` extension between two replicators: one question brings the blocks of a whole lookup."""

import trio

from hyperfs.core.core import Core
from hyperfs.core.reader import Hint, Priority
from hyperfs.protocol.events import DataReceived, ExtensionReceived, OptionsReceived, RequestReceived
from hyperfs.replication import Replicator
from hyperfs.trie import HypertrieExtension, Put, Trie, encode_batch
from hyperfs.trie import extension as trie_extension
from hyperfs.trie.cache import NodeCache
from hyperfs.trie.header import Header
from tests.support.clocks import settled
from tests.support.peers import join, reader, scripted, serving, writer

PATHS = [f"folder{number % 7}/file{number}" for number in range(300)]


async def trie_writer() -> Core:
    """Return the core of a trie with all of `PATHS`."""
    core = await writer(0, blocks=[Header(b"c" * 32, "hyperdrive").encode()])
    for path in PATHS:
        await core.append(await encode_batch(Trie(core, core.length, NodeCache()), [Put(path, b"value")]))
    await core.sync()
    return core


def question(core: Core, path: str) -> Hint:
    hint = trie_extension.get_question(core.length - 1, path)
    assert hint is not None
    return hint


async def test_a_hint_brings_what_the_lookup_reads(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = await trie_writer()
    join(nursery, replicator, serving(theirs))
    await settled()
    await core.update()
    await replicator.fetch(core, [range(core.length - 1, core.length)], Priority.URGENT, question(core, PATHS[5]))
    await settled()
    core.source = None
    node = await Trie(core, core.length, NodeCache()).get(PATHS[5])
    assert node is not None
    assert core.count(0, core.length) < 30


async def test_a_question_is_answered_with_the_blocks_of_the_lookup(nursery: trio.Nursery) -> None:
    theirs = await trie_writer()
    peer = scripted(nursery, serving(theirs))
    channel = await peer.open(extensions=("hypertrie",))
    await peer.next(OptionsReceived)
    channel.send_extension("hypertrie", question(theirs, PATHS[9]).payload)
    answer = await peer.next(ExtensionReceived)
    (parsed,) = trie_extension.parse(answer.payload)
    assert isinstance(parsed, trie_extension.Answer)
    assert theirs.length - 1 in parsed.blocks
    assert PATHS.index(PATHS[9]) + 1 in parsed.blocks


async def test_an_answer_to_no_question_is_ignored(nursery: trio.Nursery) -> None:
    replicator = Replicator(extensions=[HypertrieExtension()])
    await reader(replicator)
    peer = scripted(nursery, replicator)
    channel = await peer.open(extensions=("hypertrie",))
    channel.send_have(0, 100)
    channel.send_extension("hypertrie", trie_extension.encode_answer([1, 2, 3]))
    await peer.send()
    await peer.hears_no(RequestReceived)


async def test_an_answer_of_any_size_is_survived(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = await trie_writer()
    peer = scripted(nursery, replicator)
    channel = await peer.open(extensions=("hypertrie",))
    await peer.announce(channel, theirs.length)
    nursery.start_soon(lambda: replicator.fetch(core, [range(3, 4)], Priority.URGENT, question(theirs, "a")))
    await peer.next(RequestReceived)
    channel.send_extension("hypertrie", trie_extension.encode_answer(list(range(1_000_000))))
    await peer.send()
    await settled()
    assert peer.ending is None
    assert replicator.status().cores[0].in_flight < 100


async def test_blocks_that_the_peer_did_not_announce_are_not_asked_for(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await trie_writer()
    peer = scripted(nursery, replicator)
    channel = await peer.open(extensions=("hypertrie",))
    channel.send_have(theirs.length - 1)
    await peer.send()
    nursery.start_soon(core.get, theirs.length - 1)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await core.wait_longer(0)
    nursery.start_soon(lambda: replicator.fetch(core, [range(3, 4)], Priority.URGENT, question(theirs, "a")))
    await peer.next(ExtensionReceived)
    channel.send_extension("hypertrie", trie_extension.encode_answer([5, 6]))
    await peer.send()
    await peer.hears_no(RequestReceived)


async def test_a_flood_of_questions_is_worked_on_a_few_at_a_time(nursery: trio.Nursery) -> None:
    theirs = await trie_writer()
    peer = scripted(nursery, serving(theirs))
    channel = await peer.open(extensions=("hypertrie",))
    for _ in range(1000):
        channel.send_extension("hypertrie", question(theirs, PATHS[9]).payload)
    channel.send_request(1)
    await peer.next(DataReceived)
    assert peer.ending is None
