"""What the trie does in a second, printed as a table.

Run: python bench/trie.py [ENTRIES]. Seconds are those of the processor, and blocks are in memory, so the figures are
the trie's own.
"""

import random
import sys
import time
from collections.abc import Awaitable, Callable

import trio

sys.path.insert(0, ".")

from hyperfs.trie import Header, Node, NodeCache, Put, Trie, encode_batch
from hyperfs.trie.node import decode
from hyperfs.trie.paths import Hashing
from tests.support.sparse_core import SparseCore

BIG_CACHE = 512 << 20
OPERATIONS_PER_BATCH = 10_000


def keys_of(entries: int) -> list[str]:
    """Return paths in folders of 100, as photographs lie."""
    return [f"photos/{number // 10_000}/{number // 100 % 100:02}/img_{number:07}.jpg" for number in range(entries)]


async def timed(name: str, count: int, work: Callable[[], Awaitable[object]]) -> None:
    """Run ``work``, which does ``count`` things, and print how many of them it did a second."""
    started = time.process_time()
    await work()
    seconds = time.process_time() - started
    print(f"{name:44} {count / seconds:12,.0f}/s {seconds / count * 1e6:8.2f} us")


async def main() -> None:
    """Measure everything."""
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    keys = keys_of(entries)
    random.Random(1).shuffle(keys)
    core = SparseCore([Header().encode()])

    async def put_all() -> None:
        cache = NodeCache()
        for start in range(0, entries, OPERATIONS_PER_BATCH):
            batch = [Put(key, b"x" * 40) for key in keys[start : start + OPERATIONS_PER_BATCH]]
            core.append(await encode_batch(Trie(core, core.length, cache), batch))

    await timed("batch put", entries, put_all)

    async def decode_all() -> None:
        hashing = Hashing()
        for seq in range(1, core.length):
            decode(core.blocks[seq], seq, hashing)

    await timed("decode", entries, decode_all)

    async def list_all(trie: Trie) -> None:
        async for _ in trie.iterate():
            pass

    async def list_batches(trie: Trie) -> None:
        iterator = trie.iterate()
        while await iterator.next_batch(256):
            pass

    async def list_folders(trie: Trie) -> None:
        for number in range(entries // 100):
            async for _ in trie.iterate(f"photos/{number // 100}/{number % 100:02}", recursive=False):
                pass

    sample = random.Random(2).choices(keys, k=20_000)

    async def get_sample(trie: Trie) -> None:
        for key in sample:
            await trie.get(key)

    async def get_missing(trie: Trie) -> None:
        for key in sample:
            await trie.get(key + "x")

    async def get_cold() -> None:
        for start in range(0, 5000, 50):
            cold = Trie(core, core.length, NodeCache())
            for key in sample[start : start + 50]:
                await cold.get(key)

    async def diff_half(trie: Trie) -> None:
        changes: list[Node | None] = [change.newer async for change in trie.diff(trie.checkout(entries // 2))]
        print(f"  ({len(changes)} changes)")

    warm = Trie(core, core.length, NodeCache(BIG_CACHE))
    await timed("get, cold (a new cache every 50)", 5000, get_cold)
    await timed("iterate, cold", entries, lambda: list_all(warm))
    print(f"  (cache: {warm.cache.byte_size / entries:.0f} bytes a node as counted)")
    await timed("iterate, warm", entries, lambda: list_all(warm))
    await timed("iterate, warm, in batches", entries, lambda: list_batches(warm))
    await timed("list folders of 100, warm", entries, lambda: list_folders(warm))
    await timed("get, warm", len(sample), lambda: get_sample(warm))
    await timed("get of what is not there, warm", len(sample), lambda: get_missing(warm))
    default = Trie(core, core.length, NodeCache())
    await timed("get, cache of the default size", len(sample), lambda: get_sample(default))
    await timed("diff against half", entries, lambda: diff_half(warm))


if __name__ == "__main__":
    trio.run(main)
