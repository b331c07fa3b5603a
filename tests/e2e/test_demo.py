"""The README's first command does what it says."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_shows_a_folder_its_change_and_its_past(tmp_path: Path) -> None:
    # With the hyperfs that is tested: setting up would make the environment anew, under the tests that run in it.
    command = tmp_path / "hyperfs"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m hyperfs.cli.main "$@"\n')
    command.chmod(0o755)
    (tmp_path / "run").mkdir(mode=0o700)
    environment = {"HYPERFS": str(command), "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    shown = subprocess.run(
        [ROOT / "scripts/demo"], env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("My holidays, as of 2020.") == 2
    assert "My holidays, as of 2021." in shown.stdout
    assert "+ 2021/city.jpg" in shown.stdout
    assert "--peer" not in shown.stderr, "Bob finds Alice by the key alone"
