"""The machines' frame, and the tools they share."""

import subprocess
import sys
from pathlib import Path

import trio
import trio.testing

from tests.support.cancelling import cancelled_at_each_checkpoint
from tests.support.seeds import ROOT

SELF_TEST = """
import os, sys, types
sys.path.insert(0, {root!r})
from tests.machines import __main__ as soak

def run(seed):
    assert seed != 7, "seven"
    return f"did {{seed}}"

soak.machines = lambda: {{"one": types.SimpleNamespace(__doc__="Finds seven.", run=run)}}
sys.exit(soak.main())
"""


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SELF_TEST.format(root=str(ROOT)), *arguments],
        env={"PYTHONHASHSEED": "0"},
        cwd=Path("/"),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_seed_that_fails_is_told_with_how_to_repeat_it() -> None:
    done = soak("--first", "0", "--seeds", "10")
    assert done.returncode == 1
    assert "seven" in done.stderr
    assert "one: 8 seeds, 0 to 7" in done.stdout
    assert done.stdout.endswith("found: scripts/soak --only one --seed 7\n")


def test_seeds_that_find_nothing_are_counted() -> None:
    done = soak("--first", "8", "--seeds", "10")
    assert done.returncode == 0
    assert "one: 10 seeds, 8 to 17" in done.stdout


def test_one_seed_tells_what_was_done() -> None:
    assert "did 3\n" in soak("--seed", "3").stdout


async def test_each_checkpoint_is_cancelled_once() -> None:
    reached: list[int] = []
    for attempt in cancelled_at_each_checkpoint():
        steps = 0
        with attempt:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                steps += 1
        reached.append(steps)
        assert attempt.was_cancelled == (steps < 3)
    assert reached == [0, 1, 2, 3]


async def test_checkpoints_of_tasks_begun_inside_count() -> None:
    async def child() -> None:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        done.append(True)

    done: list[bool] = []
    attempts = 0
    for attempt in cancelled_at_each_checkpoint():
        attempts += 1
        before = len(done)
        with attempt:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
        if not attempt.was_cancelled:
            assert len(done) == before + 1
    assert attempts > 3


async def test_what_cannot_be_cancelled_comes_to_its_end() -> None:
    ends = 0
    for attempt in cancelled_at_each_checkpoint():
        with attempt:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            ends += 1
        await trio.lowlevel.checkpoint()
    assert ends == 3
