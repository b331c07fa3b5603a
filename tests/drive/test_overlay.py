"""What a batch has changed, and what it costs to ask."""

import random

import pytest

from hyperfs.drive.overlay import Overlay
from hyperfs.drive.stat import Stat
from hyperfs.trie.iterator import NodeIterator
from tests.support.drives import new_drive

FILE = Stat(0o100644)


@pytest.mark.parametrize("seed", range(8))
async def test_it_answers_as_a_plain_dictionary_would(seed: int) -> None:
    chance = random.Random(seed)

    def some_path() -> str:
        return "/".join(chance.choices("abc", k=chance.randint(1, 4)))

    own = await new_drive()
    before = {some_path() for _ in range(12)}
    async with own.writer.batch() as batch:
        for path in before:
            batch.put_stat(path, FILE)
    overlay = Overlay(own.drive.snapshot())
    plain: dict[str, Stat | None] = {}
    for _ in range(200):
        path, stat = some_path(), chance.choice([FILE, None])
        overlay.set(path, stat)
        plain[path] = stat
        asked = some_path()
        below = {path: stat for path, stat in plain.items() if path.startswith(f"{asked}/")}
        assert overlay.has_new_below(asked) == any(stat is not None for stat in below.values())
        left = {path for path in before if path.startswith(f"{asked}/") and plain.get(path, FILE) is not None}
        assert await overlay.has_any_below(asked) == bool(left) or overlay.has_new_below(asked)
        at = {asked: plain[asked]} if asked in plain else {}
        assert dict(overlay.at_and_below(asked)) == {**below, **at}


async def test_deleting_all_of_a_directory_one_by_one_looks_at_each_entry_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = await new_drive()
    names = [f"dir/{number}" for number in range(300)]
    async with own.writer.batch() as batch:
        for name in names:
            await batch.put_file(name)
    looked_at = 0
    step = NodeIterator.__anext__

    async def count(iterator: NodeIterator) -> object:
        nonlocal looked_at
        looked_at += 1
        return await step(iterator)

    monkeypatch.setattr(NodeIterator, "__anext__", count)
    async with own.writer.batch() as batch:
        for name in names:
            await batch.delete(name)
        assert await batch.find("dir") is None
    assert looked_at < 3 * len(names)
