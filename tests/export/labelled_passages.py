"""Labels passages of English prose by where they are from: `python tests/export/labelled_passages.py TEXT OUT`.

TEXT is a JSONL file of documents: news with a heading, film reviews without capitals, and long documents. OUT gets a
line `{"text": ..., "label": ...}` for each: 0 for news whose heading is about farming or water, 1 for other news, 2 for
reviews, 3 for long documents. Headings are left out and all is in lower case, so neither gives a label away.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

FARMING = re.compile(r"\b(farm|farmers|drought|water|wheat|crop|rain|irrigators|cattle|growers|dairy|rural|wool)\b")
HEADING = 80
LONG = 3500
PASSAGE = 900


def label_of(text: str) -> int:
    if not any(letter.isupper() for letter in text):
        return 2
    if len(text) > LONG:
        return 3
    return 0 if FARMING.search(text[:60].lower()) else 1


def main(source: str, out: str) -> None:
    texts = [json.loads(line)["text"] for line in Path(source).read_text().splitlines()]
    lines = [
        {"text": text[HEADING : HEADING + PASSAGE].lower(), "label": label_of(text)}
        for text in texts
        if len(text) > HEADING + 200
    ]
    Path(out).write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
