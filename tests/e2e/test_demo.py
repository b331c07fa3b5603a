"""The README's first command does what it says."""

import subprocess
from pathlib import Path

DEMO = Path(__file__).parents[2] / "scripts" / "demo"


def test_the_demo_shows_a_folder_its_change_and_its_past() -> None:
    shown = subprocess.run([DEMO], capture_output=True, text=True, timeout=300, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("My holidays, as of 2020.") == 2
    assert "My holidays, as of 2021." in shown.stdout
    assert "+ 2021/city.jpg" in shown.stdout
