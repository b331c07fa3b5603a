"""A schedule: who goes on at each await, and what a thread does meanwhile, as the seed says."""

import os
from pathlib import Path

import pytest
import trio

from tests.machines import daemon_state, staging
from tests.support.recorded_disk import RecordedFolder
from tests.support.scheduling import Schedule


def order_of_steps(seed: int) -> list[str]:
    schedule = Schedule(seed)

    async def main() -> None:
        async def task(name: str) -> None:
            for step in range(3):
                schedule.tell(f"{name}{step}")
                await schedule.turns()

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(task, name)

    schedule.run(main)
    return schedule.told


def test_seeds_differ_in_who_goes_on_when() -> None:
    assert len({tuple(order_of_steps(seed)) for seed in range(20)}) > 10


def test_a_seed_has_one_order() -> None:
    assert order_of_steps(7) == order_of_steps(7)


@pytest.mark.parametrize("machine", [staging, daemon_state])
def test_a_seed_makes_the_same_run(machine: object) -> None:
    assert machine.run(1) == machine.run(1)  # type: ignore[attr-defined]


def seen_while_a_thread_writes(seed: int, path: Path) -> int:
    """Return how often a task saw one of two files that a thread writes without the other."""
    schedule = Schedule(seed)
    path.mkdir()
    halves = 0

    def write() -> None:
        for name in ("one", "two"):
            os.close(os.open(path / name, os.O_CREAT | os.O_WRONLY))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, write)
            nursery.start_soon(look)

    async def look() -> None:
        nonlocal halves
        for _ in range(10):
            halves += len(os.listdir(path)) == 1
            await trio.lowlevel.checkpoint()

    with RecordedFolder(path, schedule.point).installed():
        schedule.run(main)
    return halves


def test_what_else_happens_may_happen_between_two_system_calls_of_a_thread(tmp_path: Path) -> None:
    seen = [seen_while_a_thread_writes(seed, tmp_path / str(seed)) for seed in range(20)]
    assert any(seen)
    assert not all(seen)


def test_time_jumps_when_nothing_is_left_to_do() -> None:
    async def main() -> None:
        await trio.sleep(3600)

    Schedule(0).run(main)


def test_what_was_not_synced_may_be_gone_after_a_power_failure(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    schedule = Schedule(0)
    recorded = RecordedFolder(folder, schedule.point)
    with recorded.installed():
        descriptor = os.open(folder / "file", os.O_CREAT | os.O_RDWR)
        os.pwrite(descriptor, b"synced", 0)
        os.fsync(descriptor)
        above = os.open(folder, os.O_RDONLY)
        os.fsync(above)
        os.close(above)
        os.pwrite(descriptor, b" and not", 6)
        os.close(descriptor)
    left = set()
    for number in range(20):
        recorded.after_power_failure(tmp_path / str(number), schedule.chance)
        left.add((tmp_path / str(number) / "file").read_bytes())
    assert left >= {b"synced", b"synced and not"}
    assert all(content.startswith(b"synced") for content in left)
    recorded.after_kill(tmp_path / "killed")
    assert (tmp_path / "killed" / "file").read_bytes() == b"synced and not"
