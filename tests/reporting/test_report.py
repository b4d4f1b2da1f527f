import builtins
import importlib.util
import json
import re
from html.parser import HTMLParser

import pytest

from distsae.errors import WrongInput
from distsae.reporting import ReportConfig, report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Checker(HTMLParser):
    """Collects tags, text and attributes, and whether every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.tags = []
        self.attributes = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_one_run(make_run):
    folder = make_run("mc")
    file = report(ReportConfig(runs=(str(folder),)))
    assert file == folder / "report" / "index.html"
    assert [path.name for path in file.parent.iterdir()] == ["index.html"]
    assert "different text" not in file.read_text()
    text = parsed(file.read_text()).text
    for expected in (
        "blocks.3.resid_post",
        "gpt2-small-en",
        "Mutual Choice",
        "0.2100",
        "0.2079 to 0.2121",
        "1 data × 2",
    ):
        assert expected in text
    assert "best" not in [value for _, name, value in parsed(file.read_text()).attributes if name == "class"]


def test_several_runs_side_by_side(make_run):
    names = {"tc": "token_choice", "mc": "mutual_choice", "fc": "feature_choice"}
    folders = [make_run(name, rule, seed=i) for i, (name, rule) in enumerate(names.items())]
    file = report(ReportConfig(runs=tuple(map(str, folders))))
    assert file == folders[0].resolve().parent / "report" / "index.html"
    page = parsed(file.read_text())
    for name in ("Token Choice", "Mutual Choice", "Feature Choice"):
        assert name in page.text
    assert page.tags.count("figure") == page.tags.count("figcaption") == 14
    fvu = re.search(r"<tr><th scope=\"row\">FVU<.*?</tr>", file.read_text(), re.DOTALL)[0]
    assert re.findall(r'<td( class="best")?><span>([\d.]+)</span>', fvu) == [
        (' class="best"', "0.2100"),
        ("", "0.2200"),
        ("", "0.2300"),
    ]


def test_the_page_needs_no_other_file_and_is_the_same_each_time(make_run, tmp_path):
    folders = (str(make_run("tc", "token_choice")), str(make_run("mc")))
    first, second = (report(ReportConfig(runs=folders, out=str(tmp_path / name))).read_text() for name in "ab")
    assert first == second
    page = parsed(first)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith("#"), (tag, name, value)
    assert "url(http" not in first
    assert "@import" not in first


def test_every_drawing_has_text_and_an_alternative_text(make_run):
    page = report(ReportConfig(runs=(str(make_run("mc")),))).read_text()
    drawings = re.findall(r"<svg viewBox.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 10
    for svg in drawings:
        assert re.search(r'role="img" aria-label="[^"]{30,}"', svg)
        assert "<text" in svg
        assert "glyph" not in svg
        assert "<style" not in svg
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) <= {"none", *re.findall(r"#[0-9a-f]{6}\b", svg)}
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for reference in re.findall(r'(?:url\(#|href="#)([^")]+)', page):
        assert reference in identifiers


def test_a_run_without_an_evaluation_keeps_its_curves(make_run):
    folders = (make_run("done"), make_run("going", evaluated=False))
    page = parsed(report(ReportConfig(runs=tuple(map(str, folders)))).read_text())
    assert "going has no evaluation yet" in " ".join(page.text.split())
    assert "done has no evaluation yet" not in " ".join(page.text.split())
    alone = parsed(report(ReportConfig(runs=(str(folders[1]),))).read_text())
    assert "FVU during training" in alone.text
    assert "Feature density against rank" not in alone.text


def test_different_text_is_not_compared(make_run):
    folders = [make_run("a", seed=0), make_run("b", seed=1)]
    for folder in folders:
        content = json.loads((folder / "evaluation.json").read_text()) | {"text_digest": folder.name}
        (folder / "evaluation.json").write_text(json.dumps(content))
    page = report(ReportConfig(runs=tuple(map(str, folders)))).read_text()
    assert "evaluated on different text" in page
    assert 'class="best"' not in page


def test_different_rows_are_said(make_run):
    folders = [make_run("a", seed=0), make_run("b", seed=1)]
    content = json.loads((folders[0] / "evaluation.json").read_text()) | {"rows": 5000}
    (folders[0] / "evaluation.json").write_text(json.dumps(content))
    page = " ".join(parsed(report(ReportConfig(runs=tuple(map(str, folders)))).read_text()).text.split())
    assert "were not measured on the same rows" in page
    assert "evaluated on different text" not in page


def test_an_older_evaluation_still_has_a_report(make_run, as_older):
    folders = (as_older(make_run("old")), make_run("new"))
    for runs in (folders, folders[:1]):
        page = report(ReportConfig(runs=tuple(map(str, runs)))).read_text()
        assert "Which tokens get more features" in parsed(page).text
        assert "not measured on the same rows" not in page
    assert "By norm of the activation" not in page


def test_names_are_escaped(make_run):
    folder = make_run("<b>&mc", evaluated=False)
    page = report(ReportConfig(runs=(str(folder), str(make_run("tc", evaluated=False))))).read_text()
    assert "<b>&mc" not in page.replace("<b>&lt;b&gt;", "")
    parsed(page)


def test_missing_libraries_are_named(make_run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else find(name, *a))
    with pytest.raises(WrongInput, match=r"needs matplotlib; run: pip install 'distsae\[report\]'"):
        report(ReportConfig(runs=(str(make_run("mc")),)))


def test_a_package_without_drawing_libraries_still_imports(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.split(".")[0] in ("matplotlib", "jinja2"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    spec = importlib.util.spec_from_file_location("fresh", importlib.util.find_spec("distsae.reporting.report").origin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert callable(module.report)


def test_out_that_is_a_file(make_run, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(WrongInput, match="must be a folder"):
        report(ReportConfig(runs=(str(make_run("mc")),), out=str(tmp_path / "taken")))
