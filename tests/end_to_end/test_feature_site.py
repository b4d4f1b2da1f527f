"""The site of feature pages in a real browser, opened from the disk."""

from __future__ import annotations

import json

import pytest

from distsae.cli.main import main
from distsae.reporting.explanations.site_names import name_in_site
from distsae.reporting.features.site_files import SiteFiles, entry_of
from tests.end_to_end.browser import browser, chromium
from tests.reporting.explanations.test_result_folder import result
from tests.reporting.features.samples import FACTS, HOSTILE, Words, page, save_random_sae, script_content

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(chromium() is None, reason="no Chromium; install one, or name it in DISTSAE_CHROMIUM"),
]


@pytest.fixture(scope="module")
def site(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    save_random_sae(folder / "mc" / "sae")
    words = ["--store", str(tiny_store), "--out", str(folder / "pages"), "--max_rows", "4000", "--device", "cpu"]
    assert main(["features", str(folder / "mc"), *words]) == 0
    return folder / "pages"


@pytest.fixture
def opened(tmp_path, site):
    with browser(tmp_path / "profile") as shown:
        yield shown
        assert shown.complaints == []
        assert all(url.startswith(("file:", "about:", "data:")) for url in shown.requested)


def _shown(opened):
    return opened.value("document.querySelector('main h2').textContent")


def _densest(site):
    counts = script_content(site / "data" / "index.js")["count"]
    return sorted(range(len(counts)), key=lambda f: (-counts[f], f))


def test_a_feature_is_shown_from_its_own_shard(site, opened):
    f = _densest(site)[0]
    opened.open(f"file://{site}/index.html#{f}")
    opened.wait("document.querySelector('ol.contexts')")
    one = script_content(site / "data" / f"shard-{f // 64:06d}.js")
    feature = one["f"][f - one["first"]]
    assert _shown(opened) == f"Feature {f}"
    assert opened.value("document.title") == f"Feature {f} · mc"
    assert opened.value("document.querySelectorAll('ol.contexts li').length") == len(feature["t"]) + len(feature["s"])
    text = opened.value("document.querySelector('ol.contexts li .text').textContent")
    assert text == "".join(one["v"][token] for token in feature["t"][0][4]).replace("\n", "↵")
    assert opened.value("document.querySelectorAll('svg rect').length") >= len(feature["h"]) // 2
    shards = {url for url in opened.requested if "shard-" in url}
    assert shards == {f"file://{site}/data/shard-{f // 64:06d}.js"}


def test_keys_and_search(site, opened):
    order = _densest(site)
    opened.open(f"file://{site}/index.html")
    assert _shown(opened) == "All features"
    for key, expected in (("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1)):
        opened.press(key)
        opened.wait(f"document.querySelector('main h2').textContent === 'Feature {order[expected]}'")
    opened.press("/", "/")
    assert opened.value("document.activeElement.id") == "query"
    assert opened.value("document.activeElement.value") == ""
    opened.type("107")
    opened.wait("document.querySelector('#rows .row .number').textContent === '107'")
    opened.press("Enter", "\r")
    opened.wait("document.querySelector('main h2').textContent === 'Feature 107'")
    word = script_content(site / "data" / "index.js")["text"][order[3]].split()[0]
    opened.press("/", "/")
    opened.type(word)
    opened.wait("document.querySelector('#found').textContent.includes(' of ')")
    names = [label + text for label, text in _named(site)]
    found = sum(word.lower() in name.lower() for name in names)
    opened.wait(f"document.querySelector('#found').textContent.startsWith('{found} of ')")
    opened.press("Escape")
    opened.press("Escape")
    assert opened.value("document.activeElement.id") != "query"


def _named(site):
    index = script_content(site / "data" / "index.js")
    return [
        (" ".join(word.strip() for word in label), text)
        for label, text, count in zip(index["label"], index["text"], index["count"], strict=True)
        if count
    ]


def test_sorting_and_links(site, opened):
    index = script_content(site / "data" / "index.js")
    opened.open(f"file://{site}/index.html")
    opened.value("(document.getElementById('sort').value = 'largest', "
                 "document.getElementById('sort').dispatchEvent(new Event('change')))")  # fmt: skip
    largest = max(range(len(index["count"])), key=lambda f: (index["largest"][f], -f))
    assert opened.value("document.querySelector('#rows .row .number').textContent") == str(largest)
    opened.open(f"file://{site}/index.html#{largest}")
    opened.wait("document.querySelector('.related a')")
    target = opened.value("document.querySelector('.related a').getAttribute('href')")
    opened.value("document.querySelector('.related a').click()")
    opened.wait(f"document.querySelector('main h2').textContent === 'Feature {target[1:]}'")


def test_a_phone_and_the_dark(site, opened):
    opened.as_phone()
    opened.open(f"file://{site}/index.html#{_densest(site)[0]}")
    opened.wait("document.querySelector('ol.contexts')")
    assert opened.value("document.documentElement.scrollWidth") <= 390
    assert opened.value("getComputedStyle(document.getElementById('sidebar')).display") == "none"
    opened.value("document.getElementById('choose').click()")
    assert opened.value("getComputedStyle(document.getElementById('sidebar')).display") == "flex"
    colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.value(colour)
    opened.press("t")
    assert opened.value(colour) != light
    opened.press("t")
    assert opened.value(colour) == light


def test_hostile_text_is_shown_and_does_not_run(tmp_path, opened):
    text = Words({**HOSTILE, 3: "<img src=x onerror=\"document.title='run'\">", 4: "<svg/onload=alert(1)>"})
    files = SiteFiles(tmp_path / "hostile", text, FACTS, shard_features=64)
    pages = [page(feature) for feature in range(64)]
    files.write(0, pages)
    files.finish([entry_of(one, text) for one in pages])
    opened.open(f"file://{tmp_path}/hostile/index.html#5")
    opened.wait("document.querySelector('ol.contexts')")
    assert opened.value("document.title") == f"Feature 5 · {FACTS.name}"
    assert opened.value("document.querySelectorAll('main img, main script, main b, #rows img').length") == 0
    shown = opened.value("document.querySelector('ol.contexts li .text').textContent")
    assert shown == "".join(text[token] for token in (0, 1, 3, 4))
    assert json.loads(opened.value("JSON.stringify([...document.scripts].map(s => s.getAttribute('src')))")) == [
        "assets/pages.js",
        "data/explanations.js",
        "data/index.js",
    ]


def test_explanations_are_shown_and_searched(tmp_path, opened):
    text = Words(HOSTILE)
    files = SiteFiles(tmp_path / "named", text, FACTS, shard_features=64)
    pages = [page(feature) for feature in range(64)]
    files.write(0, pages)
    files.finish([entry_of(one, text) for one in pages])
    words = '<b>Zebras</b>, \u2028 in "books"'
    name_in_site(tmp_path / "named", [result(2, explanation=words), result(3, explanation=None)])
    opened.open(f"file://{tmp_path}/named/index.html#2")
    opened.wait("document.querySelector('ol.contexts')")
    shown = opened.value("document.querySelector('main .explanation').textContent")
    assert shown == f"{words} detection 1, fuzzing no score"
    assert opened.value("document.querySelector('#row-2 .label').textContent") == words
    assert opened.value("document.querySelectorAll('main b, #rows b').length") == 0
    opened.value("(() => { const q = document.getElementById('query'); q.value = 'zebras';"
                 "q.dispatchEvent(new Event('input')); })()")  # fmt: skip
    opened.wait("document.querySelectorAll('#rows .row').length === 1")
    opened.open(f"file://{tmp_path}/named/index.html#3")
    opened.wait("document.title.startsWith('Feature 3')")
    assert opened.value("document.querySelector('main .explanation') === null")
    assert opened.complaints == []


def test_the_policy_blocks_other_scripts(site, opened):
    opened.open(f"file://{site}/index.html")
    opened.value("(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
                 "document.body.append(s); const d = document.createElement('div');"
                 "d.innerHTML = '<img src=x onerror=\"window.ran = 2\">'; document.body.append(d); })()")  # fmt: skip
    opened.wait("true")
    assert opened.value("window.ran === undefined")
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)
    opened.complaints.clear()


def test_a_missing_shard_is_said(site, opened):
    f = _densest(site)[0]
    shard = site / "data" / f"shard-{f // 64:06d}.js"
    shard.rename(shard.with_suffix(".away"))
    try:
        opened.open(f"file://{site}/index.html")
        opened.value(f"location.hash = '#{f}'")
        opened.wait("document.querySelector('[role=alert]')")
        assert "cannot be read" in opened.value("document.querySelector('[role=alert]').textContent")
    finally:
        shard.with_suffix(".away").rename(shard)
    opened.complaints.clear()
