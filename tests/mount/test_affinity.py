"""The thread that answers goes where the program that asks is, and is bound to nothing."""

import os
import threading

from hyperfs.mount.affinity import LOOK_EVERY, LOOK_EVERY_AT_MOST, Affinity, move_to, processor_of

PROGRAM, OTHER, KERNEL = 4711, 4712, 0
HIGHEST_ID = 1 << 22
"""No thread of Linux has a higher one."""


class Processors:
    """Where programs are, and where the thread is that answers."""

    def __init__(self) -> None:
        self.programs: dict[int, int | None] = {PROGRAM: 1, OTHER: 0, KERNEL: 1}
        self.here = 0
        self.looks = 0
        self.moves = 0
        self.lets_move = True
        self.takes_apart = False
        self.affinity = Affinity(self.where, lambda: self.here, self.move)

    def where(self, program: int) -> int | None:
        self.looks += 1
        return self.programs[program]

    def move(self, processor: int) -> bool:
        self.moves += 1
        if self.lets_move and not self.takes_apart:
            self.here = processor
        return self.lets_move

    def ask(self, *programs: int, times: int) -> None:
        for _ in range(times):
            for program in programs:
                self.affinity.asked(program)


def test_it_goes_where_a_program_is_that_asks_one_thing_after_the_other() -> None:
    processors = Processors()
    processors.ask(PROGRAM, times=LOOK_EVERY - 1)
    assert processors.here == 0
    processors.ask(PROGRAM, times=1)
    assert processors.here == 1


def test_it_stays_where_it_is_with_the_program() -> None:
    processors = Processors()
    processors.here = 1
    processors.ask(PROGRAM, times=10 * LOOK_EVERY)
    assert (processors.looks, processors.moves) == (10, 0)


def test_it_follows_a_program_that_goes_elsewhere() -> None:
    processors = Processors()
    processors.ask(PROGRAM, times=LOOK_EVERY)
    processors.programs[PROGRAM] = 0
    processors.ask(PROGRAM, times=2 * LOOK_EVERY)
    assert processors.here == 0


def test_programs_that_ask_at_the_same_time_are_left_where_they_are() -> None:
    processors = Processors()
    processors.ask(PROGRAM, OTHER, times=100 * LOOK_EVERY)
    assert not processors.looks


def test_the_kernel_itself_is_nowhere() -> None:
    processors = Processors()
    processors.ask(KERNEL, times=LOOK_EVERY_AT_MOST)
    assert not processors.looks


def test_a_program_that_is_not_to_be_seen_is_asked_after_more_and_more_rarely() -> None:
    processors = Processors()
    processors.programs[PROGRAM] = None
    processors.ask(PROGRAM, times=100 * LOOK_EVERY_AT_MOST)
    assert processors.looks < 120
    assert not processors.moves


def test_where_they_are_taken_apart_each_time_it_follows_more_and_more_rarely() -> None:
    processors = Processors()
    processors.takes_apart = True
    processors.ask(PROGRAM, times=100 * LOOK_EVERY_AT_MOST)
    assert processors.moves < 120


def test_once_they_stay_together_it_looks_as_often_as_at_first() -> None:
    processors = Processors()
    processors.takes_apart = True
    processors.ask(PROGRAM, times=LOOK_EVERY_AT_MOST)
    processors.takes_apart = False
    processors.ask(PROGRAM, times=2 * LOOK_EVERY_AT_MOST)
    looks = processors.looks
    processors.ask(PROGRAM, times=LOOK_EVERY)
    assert processors.looks == looks + 1


def test_where_it_may_not_be_moved_that_is_tried_once() -> None:
    processors = Processors()
    processors.lets_move = False
    processors.ask(PROGRAM, times=100 * LOOK_EVERY_AT_MOST)
    assert processors.moves == 1


def test_the_kernel_tells_where_a_thread_is() -> None:
    assert processor_of(threading.get_native_id()) in os.sched_getaffinity(0)


def test_a_thread_that_has_ended_is_nowhere() -> None:
    assert processor_of(HIGHEST_ID + 1) is None


def in_a_thread_that_is_bound_to(allowed: set[int], processor: int) -> tuple[set[int], bool]:
    """Move a thread of its own; return where it may run afterwards, and whether it may be moved again."""
    found: list[tuple[set[int], bool]] = []

    def work() -> None:
        os.sched_setaffinity(0, allowed)
        may_move = move_to(processor)
        found.append((os.sched_getaffinity(0), may_move))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_that_was_moved_may_run_where_it_might_before() -> None:
    everywhere = os.sched_getaffinity(0)
    for processor in everywhere:
        assert in_a_thread_that_is_bound_to(everywhere, processor) == (everywhere, True)


def test_a_thread_goes_nowhere_where_it_may_not_run() -> None:
    first = min(os.sched_getaffinity(0))
    assert in_a_thread_that_is_bound_to({first}, first + 1) == ({first}, True)
