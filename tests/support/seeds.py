"""Runs that are chosen by number: the seeds that a test tries of a machine of ``tests/machines``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines import __main__ as soak

ROOT = Path(__file__).resolve().parents[2]
FACTOR = "HYPERFS_SEEDS"
"""The environment variable that multiplies how many seeds a test tries; 1 without it."""


def try_seeds(name: str) -> None:
    """Try the first ``SEEDS`` seeds of a machine, and fail with what it found and how to make that run again.

    It runs as scripts/soak does, in a process of its own: nothing of other tests is in its way, and a seed that fails
    here fails there.
    """
    count = round(soak.machines()[name].SEEDS * float(os.environ.get(FACTOR, "1")))
    command = [sys.executable, "-W", "error", "-m", "tests.machines", "--only", name, "--first", "0"]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*command, "--seeds", str(count)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)
    assert f"{count} seeds" in done.stdout
