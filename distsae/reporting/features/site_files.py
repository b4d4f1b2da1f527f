"""Feature pages as a static site that opens from a disk: no server, no network, and only a few files are read.

A browser lets a page from a disk read other files by script tags alone. So data are scripts: `data/index.js` has a line
about each feature, and `data/shard-000000.js` everything about `SITE_SHARD` of them. A page reads the index and the
shard of the feature that it shows. A shard has each piece of text once, and contexts refer to it by number.

The text may be anybody's. It is kept as JSON strings, put into the page as text, and the page's policy lets no script
run but those of the folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from distsae.durable import replace
from distsae.reporting.features.activation_histogram import OCTAVES, PER_OCTAVE
from distsae.reporting.features.config import SITE_SHARD
from distsae.reporting.features.feature_page import FeaturePage, ShownContext
from distsae.reporting.features.page_facts import PageFacts
from distsae.reporting.features.site_script import EXPLANATIONS_CALL, EXPLANATIONS_SCRIPT, data_script
from distsae.text import TokenText

__all__ = ["SiteFiles", "entry_of", "rounded"]

_LABELS = 3
_TEXT_BEFORE = 8
_TEXT_AFTER = 4


def entry_of(page: FeaturePage, text: TokenText) -> dict[str, Any]:
    """Returns what the list says of a feature: count, largest activation, label and a piece of its first top context.

    The label is made of the strongest tokens of its top contexts, the most frequent first.
    """
    peaks = Counter(context.peak_token for context in page.top)
    snippet = ""
    if page.top:
        first, peak = page.top[0], page.top[0].position - page.top[0].first
        around = first.token_ids[max(peak - _TEXT_BEFORE, 0) : peak + _TEXT_AFTER + 1]
        snippet = "".join(text.of(around))
    return {
        "count": page.count,
        "largest": rounded(page.largest),
        "label": text.of(token for token, _ in peaks.most_common(_LABELS)),
        "text": snippet,
    }


def rounded(value: float, digits: int = 4) -> float:
    """Returns a number with so many significant digits."""
    return float(f"{value:.{digits}g}")


class SiteFiles:
    """Writes `index.html`, `assets/` and `data/`.

    Args:
        out: folder of the pages.
        text: text of tokens.
        facts: facts that the pages show.
        shard_features: features of what `write` gets at once, a multiple of `SITE_SHARD`.
    """

    def __init__(self, out: Path, text: TokenText, facts: PageFacts, shard_features: int) -> None:
        self._out, self._text = out, text
        self._facts, self._shard_features = facts, shard_features

    def write(self, shard: int, pages: Sequence[FeaturePage]) -> None:
        """Writes the shards of the site that the pages are in."""
        data = self._out / "data"
        data.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(pages), SITE_SHARD):
            number = (shard * self._shard_features + start) // SITE_SHARD
            content = self._shard(pages[start : start + SITE_SHARD])
            replace(data / f"shard-{number:06d}.js", data_script(f"distsaeShard({number},", content))

    def finish(self, entries: Sequence[dict[str, Any]]) -> None:
        """Writes the index, and the page itself last."""
        content = {
            **self._facts.to_json(),
            "shard": SITE_SHARD,
            "octaves": OCTAVES,
            "per_octave": PER_OCTAVE,
            **{name: [entry[name] for entry in entries] for name in ("count", "largest", "label", "text")},
        }
        replace(self._out / "data" / "index.js", data_script("distsaeIndex(", content))
        explanations = self._out / EXPLANATIONS_SCRIPT
        if not explanations.exists():  # `distsae explain` may have filled those of a folder that is written again
            replace(explanations, data_script(EXPLANATIONS_CALL, {}))
        assets = self._out / "assets"
        assets.mkdir(exist_ok=True)
        templates = files("distsae.reporting") / "templates" / "features"
        for name in ("pages.css", "pages.js"):
            replace(assets / name, (templates / name).read_bytes())
        environment = Environment(
            loader=PackageLoader("distsae.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        page = environment.get_template("features/index.html.jinja").render(facts=self._facts)
        replace(self._out / "index.html", page.encode())

    def _shard(self, pages: Sequence[FeaturePage]) -> dict[str, Any]:
        words: dict[int, int] = {}  # number of each token's text in this shard

        def word(token_id: int) -> int:
            return words.setdefault(token_id, len(words))

        features = [
            {
                "c": page.count,
                "m": rounded(page.mean),
                "x": rounded(page.largest),
                "h": [value for pair in page.bins for value in pair],
                "p": [value for token, effect in page.promoted for value in (word(token), rounded(effect, 3))],
                "q": [value for token, effect in page.suppressed for value in (word(token), rounded(effect, 3))],
                "n": [value for feature, cosine in page.nearest for value in (feature, rounded(cosine, 3))],
                "r": [value for f, value_, rows in page.correlated for value in (f, rounded(value_, 3), rows)],
                "t": [_context(context, [word(token) for token in context.token_ids]) for context in page.top],
                "s": [_context(context, [word(token) for token in context.token_ids]) for context in page.sampled],
            }
            for page in pages
        ]
        return {"first": pages[0].feature, "v": self._text.of(words), "f": features}


def _context(context: ShownContext, words: list[int]) -> list[Any]:
    """Returns a context as the page reads it: ids, first position, place of the peak, words, and the acts over 0."""
    acts = [value for place, act in enumerate(context.acts) if act > 0 for value in (place, rounded(act))]
    return [context.context_id, context.document_id, context.first, context.position - context.first, words, acts]
