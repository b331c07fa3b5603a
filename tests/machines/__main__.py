"""Run machines: ``scripts/soak``. The exit status says whether anything was found."""

import argparse
import gc
import importlib
import os
import pkgutil
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType, ModuleType

import tests.machines

HANGS_SECONDS = 60
"""A run that takes longer of the processor's time hangs. It is there only to end that, as the next one."""
WAITS_SECONDS = 900
"""A run that takes longer waits for what never comes: however busy the machine is, it would have come by then."""
_TIMERS = {signal.ITIMER_PROF: HANGS_SECONDS, signal.ITIMER_REAL: WAITS_SECONDS}


class Hangs(Exception):
    """A run did not come to its end."""


class Unraisable(Exception):
    """Something was raised where nobody could hear of it, such as a warning of what was not closed."""


def machines() -> dict[str, ModuleType]:
    """Return every machine by its name."""
    found = {}
    for module in pkgutil.iter_modules(tests.machines.__path__):
        if not module.name.startswith(("_", "test_")) and module.name != "conftest":
            found[module.name] = importlib.import_module(f"tests.machines.{module.name}")
    return found


def attempt(name: str, machine: ModuleType, seed: int, *, told: bool) -> bool:
    """Make one run; say what it found, and with ``told`` what it did. Returns whether nothing was found."""
    unheard: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda what: unheard.append(f"{what.exc_value!r} in {what.object!r}")
    for timer, seconds in _TIMERS.items():
        signal.setitimer(timer, seconds)
    try:
        report = machine.run(seed)
        if unheard:
            raise Unraisable("\n".join(unheard))
    except Exception:  # noqa: BLE001  whatever a run raises is what it found
        traceback.print_exc()
        print(f"{name}: FOUND with seed {seed}; again: scripts/soak --only {name} --seed {seed}", flush=True)
        failed = True
    else:
        failed = False
    finally:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
    if failed:
        gc.collect()  # what a run that failed dropped is not the next one's
    sys.unraisablehook = hook
    if told and not failed:
        print(report)
    return not failed


def _hangs(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGPROF:
        raise Hangs(f"it has not come to its end in {HANGS_SECONDS} s of the processor's time")
    raise Hangs(f"it has not come to its end in {WAITS_SECONDS} s")


def rounds(chosen: dict[str, ModuleType], first: int | None, count: int | None) -> Iterator[tuple[str, int]]:
    """Yield what to run: each machine by turns for some seconds, with the seeds from ``first``, ``count`` of each."""
    left = dict.fromkeys(chosen, count)
    following = {name: random.SystemRandom().randrange(1 << 32) if first is None else first for name in chosen}
    while left:
        for name in list(left):
            turn_ends = time.monotonic() + 5
            while time.monotonic() < turn_ends:
                if left[name] == 0:
                    del left[name]
                    break
                yield name, following[name]
                following[name] += 1
                remaining = left[name]
                left[name] = remaining if remaining is None else remaining - 1


def main() -> int:
    known = machines()
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Look for faults by machine, until Ctrl-C.")
    parser.add_argument("--only", action="append", choices=sorted(known), help="this machine; may be given again")
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--seeds", type=int, help="end after so many seeds of each machine")
    parser.add_argument("--first", type=int, help="the first seed (else anyone, which is printed)")
    parser.add_argument("--seed", type=int, help="make this one run and print what was done in it")
    parser.add_argument("--go-on", action="store_true", help="do not end with the first that is found")
    parser.add_argument("--list", action="store_true", help="name the machines and end")
    arguments = parser.parse_args()
    if sys.flags.hash_randomization and os.environ.get("PYTHONHASHSEED") != "0":
        parser.error("the hash seed is not fixed: run scripts/soak, or set PYTHONHASHSEED=0")

    chosen = {name: known[name] for name in arguments.only or known}
    for name, machine in chosen.items():
        print(f"{name}: {(machine.__doc__ or '').partition(chr(10))[0]}", flush=True)
    if arguments.list:
        return 0
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, _hangs)
    if arguments.seed is not None:
        good = [attempt(*each, arguments.seed, told=True) for each in chosen.items()]
        return 0 if all(good) else 1

    began = time.monotonic()
    tried: dict[str, list[int]] = {name: [] for name in chosen}
    spent = dict.fromkeys(chosen, 0.0)
    found: list[tuple[str, int]] = []
    try:
        for name, seed in rounds(chosen, arguments.first, arguments.seeds):
            at = time.monotonic()
            if arguments.seconds is not None and at - began >= arguments.seconds:
                break
            good = attempt(name, chosen[name], seed, told=False)
            spent[name] += time.monotonic() - at
            tried[name] = [*(tried[name] or [seed])[:1], seed]
            if not good:
                found.append((name, seed))
                if not arguments.go_on:
                    break
    except KeyboardInterrupt:
        print()
    for name, seeds in tried.items():
        if seeds:
            count = seeds[-1] - seeds[0] + 1
            print(f"{name}: {count} seeds, {seeds[0]} to {seeds[-1]}, in {spent[name]:.1f} s")
    for name, seed in found:
        print(f"found: scripts/soak --only {name} --seed {seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
