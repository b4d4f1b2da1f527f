"""Runs commands of distsae one after the other in this process, which has a pretended GPU, and reports what they did.

    python -m tests.pretended_cuda.program REPORT 'produce --model ...' 'train --store ...'

`REPORT` becomes a JSON file: the operations and kernels that ran on the device; and for each command its exit code, its
launches, its waits by line, the bytes that were copied to and from the device, and its collectives in order.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from distsae.cli.main import main
from tests.pretended_cuda import LEDGER, pretended_cuda


def run(report: Path, commands: list[str]) -> None:
    """Runs commands up to the first that fails, and writes the report."""
    done = []
    with pretended_cuda():
        for command in commands:
            LEDGER.clear()
            code = main(shlex.split(command))
            launches, waits, _ = LEDGER.totals()
            counts = {name: dict(getattr(LEDGER, name)) for name in ("waited_at", "waits_aside", "copied")}
            done.append(
                {"code": code, "launches": launches, "waits": waits, "collectives": [*LEDGER.collectives]} | counts
            )
            if code:
                break
    kinds = {"operations": sorted(LEDGER.operations), "kernels": sorted(LEDGER.kernels)}
    report.write_text(json.dumps(kinds | {"commands": done}))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
