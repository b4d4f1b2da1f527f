"""The tutorial, as a new user types it: its blocks in order, in one shell, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_documentation import BLOCKS, ROOT


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_every_block_of_the_tutorial_runs(tmp_path):
    blocks = [block for block in BLOCKS if block.page == "docs/tutorial.md" and not block.needs]
    assert [block.language for block in blocks] == ["bash"] * 5 + ["python"]
    lines = ["set -euo pipefail"]
    for block in blocks:
        lines.append(block.text if block.language == "bash" else f"python - <<'PYTHON'\n{block.text}\nPYTHON")
    (tmp_path / "bin").mkdir()
    for name, words in {"python": "", "distsae": "-m distsae"}.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    (work := tmp_path / "work").mkdir()
    command = ["bash", "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(work, "run/report/index.html").stat().st_size > 10_000
    assert Path(work, "run/features/index.html").is_file()
    assert "loss recovered" in done.stdout
