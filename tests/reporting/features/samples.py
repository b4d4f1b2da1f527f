"""Small things for the tests of feature pages: an SAE with features that fire, pages by hand, hostile text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from distsae.model import SAE, SAEConfig
from distsae.reporting.features.feature_page import FeaturePage, ShownContext
from distsae.reporting.features.page_facts import PageFacts
from distsae.text import TokenText

HOOK = "blocks.0.resid_post"
D_SAE = 150


def save_random_sae(folder: Path, d_sae: int = D_SAE, d_in: int = 32, **changes: object) -> Path:
    """Saves an SAE with random features, some dead; returns its folder."""
    generator = torch.Generator().manual_seed(1)
    decoder = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    b_enc = torch.zeros(d_sae)
    b_enc[::9] = -1000
    values = {
        "d_in": d_in,
        "d_sae": d_sae,
        "k": 6,
        "allocation": "mutual_choice",
        "hook_name": HOOK,
        "hook_layer": 0,
        "model_name": "tiny",
        "context_size": 32,
        "prepend_bos": True,
    }
    SAE(
        SAEConfig(**(values | changes)),
        W_enc=decoder.T.contiguous(),
        W_dec=decoder,
        b_enc=b_enc,
        b_dec=torch.zeros(d_in),
        threshold=torch.full((d_sae,), 1.5),
    ).save(folder)
    return folder


def tree(folder: Path) -> dict[str, str]:
    """The digest of every file in a folder, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def script_content(path: Path) -> dict:
    """What a script of the site passes to its function."""
    text = path.read_text()
    return json.loads(text[text.index("{") : text.rindex(")")])


FACTS = PageFacts(
    name='run "1" <x>',
    model="org/tiny",
    hook=HOOK,
    layer=0,
    allocation="Mutual Choice",
    d_in=4,
    d_sae=70,
    k=2,
    corpus="text.jsonl",
    split="train",
    contexts=5,
    context_length=8,
    rows=100,
    correlation_rows=50,
    version="0.1",
)


class Words(TokenText):
    """The text of tokens, given by hand."""

    def __init__(self, words: dict[int, str]) -> None:
        super().__init__(None)
        self._known = dict(words)


HOSTILE = {
    0: "<script>alert(1)</script>",
    1: "\u2028'\"`${x}",
    2: "\n",
    3: " the",
    4: "]]>--><b>",
    5: "é🙂",
    6: "</title>",
}


def page(feature: int, count: int = 3, **changes: object) -> FeaturePage:
    """A page with a little of everything; a feature that fires on no row has no contexts."""
    strongest = ShownContext(
        context_id=7, document_id=2, first=1, position=3, token_ids=(0, 1, 3, 4), acts=(0.0, 1.25, 4.123456, 0.5)
    )
    weak = ShownContext(context_id=9, document_id=4, first=0, position=0, token_ids=(3, 2, 5), acts=(1.0, 0.0, 0.25))
    values = {
        "feature": feature,
        "rows": 100,
        "count": count,
        "mean": 1.5,
        "bins": ((161, 2), (177, 1)) if count else (),
        "top": (strongest, weak) if count else (),
        "sampled": (strongest, weak) if count else (),
        "promoted": ((5, 2.0), (6, 1.0)),
        "suppressed": ((1, -2.0),),
        "logit_heights": (1, 2),
        "logit_values": (-0.5, 0.5),
        "nearest": ((1, 0.75), (2, 0.5)),
        "correlated": ((3, 0.25, 4),),
        "alignment": ((2, 0.5), (0, -0.25)),
        "decoder_l1": 1.0,
    }
    return FeaturePage(**(values | changes))
