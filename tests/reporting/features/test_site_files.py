import re

from distsae.reporting.features.site_files import SiteFiles, entry_of, rounded
from tests.reporting.features.samples import FACTS, HOSTILE, Words, page, script_content

TEXT = Words(HOSTILE)


def _site(folder):
    files = SiteFiles(folder, TEXT, FACTS, shard_features=64)
    pages = [page(feature, count=feature % 5) for feature in range(70)]
    for shard in range(2):
        files.write(shard, pages[64 * shard : 64 * (shard + 1)])
    files.finish([entry_of(one, TEXT) for one in pages])
    return folder


def test_a_shard_has_all_of_its_features(tmp_path):
    site = _site(tmp_path)
    shards = [script_content(site / "data" / f"shard-00000{number}.js") for number in range(2)]
    assert [(shard["first"], len(shard["f"])) for shard in shards] == [(0, 64), (64, 6)]
    assert (site / "data" / "shard-000001.js").read_text().startswith("distsaeShard(1,{")
    words, one = shards[0]["v"], shards[0]["f"][1]
    assert (one["c"], one["m"], one["x"], one["h"]) == (1, 1.5, 4.123, [161, 2, 177, 1])
    context_id, document_id, first, peak, tokens, acts = one["t"][0]
    assert (context_id, document_id, first, peak) == (7, 2, 1, 2)
    assert [words[token] for token in tokens] == [HOSTILE[token] for token in (0, 1, 3, 4)]
    assert acts == [1, 1.25, 2, 4.123, 3, 0.5]
    assert [words[one["p"][0]], one["p"][1], words[one["q"][0]], one["q"][1]] == ["é🙂", 2.0, HOSTILE[1], -2.0]
    assert (one["n"], one["r"]) == ([1, 0.75, 2, 0.5], [3, 0.25, 4])
    assert shards[0]["f"][0]["t"] == []


def test_the_index_has_a_line_about_each_feature(tmp_path):
    content = script_content(_site(tmp_path) / "data" / "index.js")
    assert len(content["count"]) == len(content["label"]) == len(content["text"]) == 70
    assert (content["count"][3], content["largest"][3]) == (3, 4.123)
    assert content["label"][3] == [" the"]
    assert content["text"][3] == "".join(HOSTILE[token] for token in (0, 1, 3, 4))
    assert content["label"][0] == []
    assert (content["rows"], content["shard"], content["name"]) == (100, 64, FACTS.name)


def test_hostile_text_stays_text(tmp_path):
    site = _site(tmp_path)
    for path in site.rglob("*.js"):
        if path.parent.name == "data":
            content = path.read_bytes()
            assert content.isascii()
            assert b"<" not in content
    html = (site / "index.html").read_text()
    assert "<x>" not in html
    assert "run &#34;1&#34; &lt;x&gt; · features" in html


def test_the_page_lets_no_other_script_run(tmp_path):
    html = (_site(tmp_path) / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"<script[^>]*>", html) == [
        '<script src="assets/pages.js" defer>',
        '<script src="data/explanations.js" defer>',
        '<script src="data/index.js" defer>',
    ]
    assert not re.search(r'https?://|\son\w+=|style="', html)


def test_the_script_never_makes_markup_of_text():
    from importlib.resources import files

    script = (files("distsae.reporting") / "templates" / "features" / "pages.js").read_text()
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert unsafe not in script


def test_labels_are_the_most_frequent_strongest_tokens():
    top = page(0).top
    entry = entry_of(page(0, top=(top[1], top[0], top[1])), TEXT)
    assert entry["label"] == [" the"]
    other = Words({**HOSTILE, 3: "b"})
    assert entry_of(page(0, top=(top[0],)), other)["text"] == "<script>alert(1)</script>\u2028'\"`${x}b]]>--><b>"


def test_numbers_are_short():
    assert [rounded(value) for value in (0.0, 1234.56, 0.000123456)] == [0.0, 1235.0, 0.0001235]
