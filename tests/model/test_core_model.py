"""A core against a list, over random operations and reopening."""

from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hyperfs.core.core import Core
from hyperfs.core.reader import Run
from hyperfs.storage import MemoryDirectory
from tests.support.cores import KEYS, CoreSource, bring

BLOCKS = st.lists(st.binary(max_size=12), min_size=1, max_size=40)


class CoreMachine(RuleBasedStateMachine):
    """A writer, a sparse reader of it, and a list of what was appended."""

    def __init__(self) -> None:
        super().__init__()
        self.model: list[bytes] = []
        self.cleared: set[int] = set()
        self.brought: set[int] = set()
        self.directories = (MemoryDirectory(), MemoryDirectory())

    def do(self, work: Any, *arguments: Any) -> Any:
        return trio.run(work, *arguments)

    @initialize()
    def make(self) -> None:
        async def work() -> None:
            self.writer = await Core.open(self.directories[0], key_pair=KEYS)
            self.reader = await Core.open(self.directories[1], key=KEYS.public)

        self.do(work)

    @rule(blocks=BLOCKS)
    def append(self, blocks: list[bytes]) -> None:
        assert self.do(self.writer.append, blocks) == len(self.model)
        self.model += blocks

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.model) - 1))
        end = min(len(self.model), start + data.draw(st.integers(1, 8)))
        self.do(self.writer.clear, start, end)
        self.cleared.update(range(start, end))

    @precondition(lambda self: len(self.model) > len(self.cleared))
    @rule(data=st.data())
    def bring(self, data: st.DataObject) -> None:
        here = [index for index in range(len(self.model)) if index not in self.cleared]
        index = data.draw(st.sampled_from(here))
        self.do(bring, self.writer, self.reader, [index])
        self.brought.add(index)

    @precondition(lambda self: len(self.model) > len(self.cleared))
    @rule(data=st.data())
    def read_through(self, data: st.DataObject) -> None:
        """Read part of a run whose blocks the writer all has."""
        start = end = data.draw(st.sampled_from([i for i in range(len(self.model)) if i not in self.cleared]))
        while end < len(self.model) and end not in self.cleared and end - start < 10:
            end += 1
        content = b"".join(self.model[start:end])
        run = Run(range(start, end), sum(map(len, self.model[:start])), len(content))
        position, size = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 60))
        source = self.reader.source = CoreSource(self.writer, self.reader)
        assert self.do(self.reader.read, run, position, size) == content[position : position + size]
        self.brought.update(source.fetched, source.sought)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(0, sum(map(len, self.model))))
        index, relative = self.do(self.writer.seek, offset)
        assert sum(map(len, self.model[:index])) + relative == offset

    @rule()
    def reopen(self) -> None:
        async def work() -> None:
            await self.writer.close()
            await self.reader.close()
            self.writer = await Core.open(self.directories[0])
            self.reader = await Core.open(self.directories[1])

        self.do(work)

    @invariant()
    def the_writer_has_what_was_appended_and_not_cleared(self) -> None:
        if not hasattr(self, "writer"):
            return
        expected = [None if index in self.cleared else block for index, block in enumerate(self.model)]
        assert [self.writer.get_local(index) for index in range(self.writer.length)] == expected
        assert self.writer.byte_length == sum(map(len, self.model))

    @invariant()
    def the_reader_has_what_was_brought(self) -> None:
        if not hasattr(self, "reader"):
            return
        here = {index for index in range(len(self.model)) if self.reader.get_local(index) is not None}
        assert here == self.brought
        assert all(self.reader.get_local(index) == self.model[index] for index in here)

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            assert self.do(self.writer.audit) == []
            assert self.do(self.reader.audit) == []


class TestCore(CoreMachine.TestCase):  # type: ignore[misc]  # made by hypothesis
    """The machine, run by pytest."""

    settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
