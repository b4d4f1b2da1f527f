"""`distsae import SAE --out DIR`: reads an SAE of another tool, or of the Hub, and saves it as one of distsae."""

from __future__ import annotations

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Read an SAE of SAELens, dictionary_learning, sparsify or the Hub, and save it as one of distsae."

EXAMPLES = """\
  distsae import downloads/topk --out saes/topk
  distsae import downloads/jumprelu --out saes/jumprelu --store stores/gpt2      (measures the features per token)
  distsae import downloads/relu --out saes/relu --k 60 --hook blocks.6.resid_post
  distsae import user/repository/folder --out saes/fetched
  distsae import saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre --out saes/jb8      (with sae-lens installed)
"""


def run(argv: list[str]) -> int:
    """Parses `argv`, imports, and prints what the SAE is."""
    from distsae.cli.parsing import parse
    from distsae.export.config import ImportConfig

    config = parse(ImportConfig, argv, prog="distsae import", examples=EXAMPLES, help=HELP, positionals=("sae",))
    from distsae.export.importing import import_sae

    cfg, found = import_sae(config)
    print(f"{cfg.architecture} of {cfg.d_sae:,} features, d_in {cfg.d_in:,}, at {cfg.hook_name}")
    if found is not None:
        print(f"features per token on the store: {found:.3f}, so k is {cfg.k}")
    print(config.out)
    return 0
