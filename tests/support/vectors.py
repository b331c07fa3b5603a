"""The exact vectors that the reference implementation made, in tests/fixtures/.

A test that changes files works on a copy: `copy_store` makes one.
"""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


@functools.cache
def load(name: str) -> Any:
    """Return the parsed ``tests/fixtures/NAME.json``; callers do not change it."""
    return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


def path(name: str) -> Path:
    """Return the path of a directory or file of the fixtures, only to be read."""
    found = FIXTURES / name
    if not found.exists():
        raise FileNotFoundError(found)
    return found


def copy_store(name: str, target: Path) -> Path:
    """Copy the fixture directory ``name`` to ``target`` (which must not be there) and return ``target``."""
    shutil.copytree(path(name), target)
    return target
