"""Machines that look for faults: each makes up runs by number, and what it found is there again under that number.

A machine is a module of this folder, beside this file, with three names::

    '''What it does to what, and what has to hold.'''  # the first line is what scripts/soak prints

    SEEDS = 300
    '''How many runs scripts/test makes: the seeds 0 to 299. Some ten seconds' worth, a minute's at most.'''

    def run(seed: int) -> str:
        '''Make one run and return what was done in it, a line each step. Raises what it found.'''

and a test module beside it, of its own so that the machines are spread over the workers::

    def test_nothing_is_found(…) -> None:
        try_seeds("NAME")  # of tests/support/seeds.py

The rules for ``run``:

- All chance comes from ``random.Random(seed)``. A run reads no clock, waits for no thread that it does not itself
  time, and leaves nothing behind: no file, no task, no patched module. Then the same seed makes the same run, in any
  process, at any time; the hash seed of the process is fixed for that, and everything that warns is an error.
- What it finds it raises, as an AssertionError or whatever the project raised; `add_note` tells what was done before.
- Few milliseconds a run: what is looked for is found by many runs. A run that has not come to its end within a minute
  hangs, which counts as found.

    scripts/soak                              # every machine, over and over, with new seeds, until Ctrl-C
    scripts/soak --seconds 600 --only NAME    # for so long, only that one
    scripts/soak --only NAME --seed 4711      # that run again; it prints what was done
"""
