"""Launches and waits of a whole step on a GPU, and bytes of its update, counted on a pretended one.

    python -m tests.benchmarks.gpu_step

The cost of a chunk of scores, of a block of the update and of the rest of a step are measured in small steps
(`tests/pretended_cuda/step_costs.py`); the table adds them up for real sizes. Nothing is timed, and no GPU is needed.
"""

from __future__ import annotations

import argparse

from distsae.model.selection_memory import chunk_bounds, selection_mb_on
from tests.pretended_cuda.step_costs import EVERY_BATCH, bytes_a_score, bytes_a_weight, growth_of

RULES = ("mutual_choice", "token_choice", "feature_choice", EVERY_BATCH)
_BLOCK_BYTES = 1 << 26  # of distsae.training.engines.plain, for updates that are not whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d_in", type=int, default=768)
    parser.add_argument("--d_sae", type=int, default=131072)
    parser.add_argument("--batch_tokens", type=int, default=8192)
    parser.add_argument("--selection_mb", type=float, help="by default that of a GPU")
    given = parser.parse_args()
    megabytes = given.selection_mb or selection_mb_on("cuda", given.batch_tokens)
    chunks = len(chunk_bounds(given.d_sae, given.batch_tokens, megabytes, prefilter=True))
    blocks = -(-given.d_sae * given.d_in * 4 // _BLOCK_BYTES)
    print(f"d_in {given.d_in}, d_sae {given.d_sae}, {given.batch_tokens} tokens: {chunks} chunks, {blocks} blocks")
    print("rule, auxiliary loss: launches, waits of a step (of a chunk; of a block; of the rest)")
    for rule in RULES:
        for auxiliary in (False, True):
            launches, waits = growth_of(rule, auxiliary=auxiliary)
            shown = [
                f"{growth.at(chunks, blocks):.0f} ({growth.chunk:.4g}; {growth.block:.4g}; {growth.rest:.4g})"
                for growth in (launches, waits)
            ]
            print(f"{rule}{' + aux_zipf' * auxiliary}: {shown[0]}, {shown[1]}")
    print("bytes of an update for each number of the encoder and decoder, matched rows aside:")
    print(", ".join(f"{state} {bytes_a_weight(state):.1f}" for state in ("fp32", "bf16", "int8")))
    print("bytes of Mutual Choice for each score, with a matrix of bounds and with one bit a score:")
    print(", ".join(f"{bytes_a_score(direct=direct):.2f}" for direct in (False, True)))


if __name__ == "__main__":
    main()
