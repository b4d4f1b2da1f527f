"""The page of a study: one file, valid, with nothing from elsewhere."""

import dataclasses
import re
from html.parser import HTMLParser

from distsae.reporting.study import StudyResult
from distsae.reporting.study.page import study_page, write_page
from tests.reporting.study.samples import member, study

_VOID = {"meta", "br", "line"}


class _Balance(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def _parsed(page):
    parser = _Balance()
    parser.feed(page)
    assert (parser.open, parser.wrong) == ([], [])
    return " ".join(" ".join(parser.text).split())


def test_the_page_has_table_figures_and_failures():
    page = study_page(study())
    text = _parsed(page)
    for part in ("trial", "64 features, k 8", "Pareto fronts, 64 features", "Error against learning rate"):
        assert part in text
    assert "0.3200 ± 0.0283" in text
    assert "its training ended with exit code 1" in text
    assert "a <b>" in text  # names are text, not markup
    assert "2 members of this study are" not in text
    assert "1 member of this study is not trained or not evaluated yet" in text


def test_the_best_of_a_size_is_marked_and_only_where_there_is_a_choice():
    page = study_page(study())
    best = re.findall(r'<td class="best"><span>([^<]*)</span>', page)
    assert "0.2900" in best  # of k 8, where two methods have results
    assert "0.2000" not in best  # of k 16, where one has


def test_nothing_comes_from_elsewhere():
    page = study_page(study())
    assert re.findall(r'(?:src|href)="(?!#)', page) == []
    assert "<script" not in page
    assert "url(" not in re.sub(r"url\(#", "", page)


def test_identifiers_of_drawings_do_not_clash():
    ids = re.findall(r' id="([^"]+)"', study_page(study()))
    assert len(ids) == len(set(ids))


def test_other_texts_are_warned_of():
    result = study()
    other = dataclasses.replace(member("c/0"), evaluation={"text_digest": "other"})
    page = study_page(dataclasses.replace(result, members=[*result.members, other]))
    assert "evaluated on different text" in page
    assert "evaluated on different text" not in study_page(result)


def test_a_study_that_has_only_begun_is_a_page_too(tmp_path):
    path = write_page(StudyResult(name="empty", cells=study().cells[3:]), tmp_path / "report")
    assert path.name == "index.html"
    assert "Results" in _parsed(path.read_text())
