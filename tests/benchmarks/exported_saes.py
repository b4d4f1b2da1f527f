"""Do the doors keep an SAE as it is? Exported SAEs in other tools' hands, and other tools' SAEs here.

    python -m tests.benchmarks.exported_saes --peers_python PEERS/bin/python --store STORE --runs RUN [RUN ...]
    python -m tests.benchmarks.exported_saes --peers_python PEERS/bin/python --store STORE --hook HOOK --theirs

The first prints, for each run and each tool that can hold its SAE, on held-out rows of the store: pairs of row and
feature that fire in one of the two only; the largest relative difference of a row's reconstruction; the FVU here and by
the tool's own forward; and whether reading the folder again gives the SAE back bit for bit. The second trains SAEs with
the tools' own trainers, saves them with their own functions, and prints the same after reading them here.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.export.config import ExportConfig
from distsae.export.export import export
from distsae.model import SAE
from distsae.store import Store
from distsae.training.freezing.heldout_rows import heldout_rows
from tests.export.loading_back import agreement, fvu, tools_view, train_theirs

TOOLS = ("saelens", "dictionary_learning", "sparsify")
THEIRS = {
    "saelens": ("standard", "topk", "batchtopk", "jumprelu", "topk constant_norm_rescale"),
    "dictionary_learning": (
        *("AutoEncoder", "AutoEncoderTopK", "BatchTopKSAE"),
        *("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"),
    ),
    "sparsify": ("topk",),
}
HEAD = "| SAE | tool | features on | on in one only | x_hat | FVU here | FVU there | back |\n" + 8 * "|---" + "|"


def rows_of(store: Store, hook: str, count: int, max_norm: float | None = None) -> Tensor:
    rows, _ = heldout_rows(store, hook, max_norm, calibration_tokens=count, judging_tokens=0)
    return rows.float()


def compared(name: str, tool: str, folder: Path, sae: SAE, x: Tensor, python: str, scratch: Path, back: str) -> str:
    """Returns a line of the table."""
    view = tools_view(python, tool, folder, x, sae.cfg.d_sae, scratch)
    found = agreement(sae, x, view, normalised_acts=sae.normalises_rows)
    with torch.no_grad():
        here = fvu(x, sae(x))
    there = fvu(x, view.x_hat)
    return (
        f"| {name} | {tool} | {found.matches:,} | {found.differing} | {found.x_hat:.1e} | {here:.6f} | {there:.6f} | "
        f"{back} |"
    )


def same(one: SAE, other: SAE) -> str:
    first, second = one.state_dict(), other.state_dict()
    equal = one.cfg == other.cfg and first.keys() == second.keys()
    return "bit for bit" if equal and all(torch.equal(first[name], second[name]) for name in first) else "changed"


def out_and_back(arguments: argparse.Namespace, store: Store, scratch: Path) -> None:
    for number, run in enumerate(arguments.runs):
        sae = SAE.load(run)
        x = rows_of(store, sae.cfg.hook_name, arguments.rows, sae.cfg.max_norm)
        for tool in arguments.tools:
            folder = scratch / f"{number}-{tool}"
            name = f"{sae.cfg.allocation}, {sae.cfg.normalise}"
            try:
                export(ExportConfig(run=run, to=tool, out=str(folder)))
            except WrongInput:
                print(f"| {name} | {tool} | refused | | | | | |", flush=True)
                continue
            back = same(SAE.load(folder), sae)
            print(compared(name, tool, folder, sae, x, arguments.peers_python, scratch, back), flush=True)


def theirs(arguments: argparse.Namespace, store: Store, scratch: Path) -> None:
    x = rows_of(store, arguments.hook, 2 * arguments.rows)
    scale = x.shape[1] ** 0.5 / float(torch.linalg.vector_norm(x, dim=1).median())
    training, held = (part.contiguous() for part in (x * scale).chunk(2))
    for tool in arguments.tools:
        for kind in THEIRS[tool]:
            folder = scratch / f"{tool}-{kind.replace(' ', '-')}"
            job = {"steps": arguments.steps, "batch": 512, "d_sae": arguments.d_sae, "k": 16}
            train_theirs(arguments.peers_python, tool, kind, folder, training, scratch, **job)
            sae = SAE.load(folder, k=16)
            print(compared(kind, tool, folder, sae, held, arguments.peers_python, scratch, ""), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers_python", required=True, help="interpreter of an environment with the tools")
    parser.add_argument("--store", required=True)
    parser.add_argument("--runs", nargs="*", default=[], help="run folders")
    parser.add_argument("--hook", help="hook of the rows that their SAEs are trained on")
    parser.add_argument("--theirs", action="store_true", help="train SAEs with the tools' own trainers, and read them")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--d_sae", type=int, default=1024)
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    print(HEAD)
    with tempfile.TemporaryDirectory() as scratch:
        out_and_back(arguments, store, Path(scratch))
        if arguments.theirs:
            theirs(arguments, store, Path(scratch))


if __name__ == "__main__":
    main()
