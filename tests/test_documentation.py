"""Every command and code block of README, CONTRIBUTING and docs: it is run or says what it needs, and its words exist.

A comment `<!-- needs: ... -->` on the line before a block says why no test runs it. In the first lines of a page it
counts for all commands there. Commands are parsed by the parser of the command in either case, values and all.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from distsae.cli import parsing
from distsae.cli.main import COMMANDS, main
from distsae.store import Store

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_HERE = ("README.md", "docs/allocation.md", "docs/features.md", "docs/index.md", "docs/stores.md")
"""Pages whose blocks of Python are run by the last test here, among stores and runs of the names that they use."""

RUN_BY = {
    "docs/notebook.md": "tests/test_notebooks.py",
    "CONTRIBUTING.md": "tests/test_notebooks.py",
    "docs/tutorial.md": "tests/end_to_end/test_tutorial.py",
}
"""The tests that run the blocks of a page, as far as the blocks do not say what they need."""

STUBS = {
    "run.yaml": "{store: store, out: run}",
    "PEERS/bin/python": "",
    "OUT/produce.yaml": "{model: m, corpus: c, hooks: [a], out: store, max_rows: 1000}",
    "runs/sweep/NAME/config.yaml": "{store: store, out: run}",
    "runs/old/config.yaml": "{store: store, out: run}",
}
"""Config files that commands of the pages take, and no page shows."""

SCRIPTS = {
    "launch/over_ssh.sh": "train",
    "launch/slurm_train.sh": "train",
    "launch/slurm_produce.sh": "produce",
}
"""Scripts that pass their words on to a command."""

VALUES = {"$@": "x", "$MACHINE_RANK": "0"}
"""What the shell would put in, where a parser wants a value of a certain kind."""

END_OF_COMMAND = re.compile(r"^(;|&|&&|\||\|\||>.*|2>.*|done|do|\)|\}|--)$|.*;$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and first line, its language, what it needs according to its comment, its text."""

    page: str
    line: int
    language: str
    needs: str
    text: str


def _blocks(path: Path) -> Iterator[Block]:
    page, lines = str(path.relative_to(ROOT)), path.read_text().splitlines()
    marked = re.search(r"<!-- needs: (.*?) -->", "\n".join(lines[:4]))
    start = None
    for number, line in enumerate(lines):
        fence = re.match(r" *```(.*)", line)
        if fence is None:
            continue
        if start is None:
            start, language = number, fence[1].strip()
            before = re.fullmatch(r" *<!-- needs: (.*?) -->", lines[number - 1]) or (
                marked if language == "bash" else None
            )
        else:
            yield Block(page, start + 1, language, before[1] if before else "", "\n".join(lines[start + 1 : number]))
            start = None
    assert start is None, f"{page} ends within a block"


BLOCKS = [block for path in PAGES for block in _blocks(path)]


def _commands(text: str) -> Iterator[list[str]]:
    """Yields the words after `distsae` of each command in a block of bash."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        for position, word in enumerate(words):
            script = SCRIPTS.get(word)
            if word == "distsae" or script:
                rest = words[position + 1 :]
                end = next((n for n, word in enumerate(rest) if END_OF_COMMAND.match(word)), len(rest))
                given = [word.rstrip(")") if word.endswith("')") else word for word in rest[:end]]
                yield [script, *given] if script else given


class _Parsed(BaseException):
    """A command's own parser has taken its words."""


def _parse(argv: list[str], monkeypatch) -> None:
    """Has a command parse its words, and go no further."""
    real = parsing.parse

    def parse(*args, **kwargs):
        real(*args, **kwargs)
        raise _Parsed

    with monkeypatch.context() as patched:
        patched.setattr(parsing, "parse", parse)
        try:
            code = main(argv)
        except _Parsed:
            return
    pytest.fail(f"`distsae {shlex.join(argv)}` ended with {code}")


def test_blocks_are_found():
    assert len(BLOCKS) > 90
    assert {block.page for block in BLOCKS} > {"README.md", "docs/training.md", "docs/tutorial.md"}
    assert {block.language.split(" ")[0] for block in BLOCKS} <= {"", "bash", "python", "text", "yaml"}


def test_every_block_is_run_or_says_what_it_needs():
    silent = [
        f"{block.page}:{block.line}"
        for block in BLOCKS
        if block.language in ("bash", "python") and not block.needs
        if block.page not in RUN_BY and not (block.page in RUN_HERE and block.language == "python")
    ]
    assert silent == []


def test_tests_that_run_pages_are_there():
    assert all((ROOT / test).is_file() for test in RUN_BY.values())


def _config_files(near: Block) -> dict[str, str]:
    """Returns the config files that the page of a block shows, of several with one name the nearest."""
    shown = sorted(
        (block for block in BLOCKS if block.page == near.page and block.language == "yaml"),
        key=lambda block: -abs(block.line - near.line),
    )
    return {named[1]: block.text for block in shown if (named := re.match(r"# ([\w.]+\.yaml)", block.text))}


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.language == "bash"}))
def test_commands_are_taken_by_their_parsers(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        if block.page != page or block.language != "bash":
            continue
        for name, text in {**STUBS, **_config_files(block)}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        for words in _commands(block.text):
            argv = [VALUES.get(word, word) for word in words]
            if argv and argv[0] in COMMANDS:
                _parse(argv, monkeypatch)
            else:
                assert main(argv) == 0, f"{block.page}:{block.line}: distsae {shlex.join(argv)}"


def test_a_wrong_option_would_be_found(monkeypatch):
    with pytest.raises(pytest.fail.Exception, match="ended with 2"):
        _parse(["train", "--store", "s", "--out", "r", "--sae.width", "5"], monkeypatch)
    assert list(_commands("A=b accelerate launch --x 1 -m distsae train --store s \\\n  --out r  # why")) == [
        ["train", "--store", "s", "--out", "r"]
    ]


def test_files_and_modules_that_blocks_name_exist():
    missing = []
    for block in BLOCKS:
        if block.language != "bash":
            continue
        for path in re.findall(r"(?<![\w/])(?:launch|cluster_configs|tests|docs)/[\w./*-]+\w", block.text):
            if not list(ROOT.glob(path)):
                missing.append(f"{block.page}:{block.line}: {path}")
        for module in re.findall(r"-m ((?:tests|distsae)\.[\w.]+)", block.text):
            path = ROOT / module.replace(".", "/")
            if not (path.with_suffix(".py").is_file() or path.is_dir() or module == "tests.benchmarks.NAME"):
                missing.append(f"{block.page}:{block.line}: {module}")
    assert missing == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with stores and runs of the names that pages use, and the arrays that their blocks begin with."""
    folder = tmp_path_factory.mktemp("prepared")
    activations = torch.randn(64, 16, 24, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(64 * 16).reshape(64, 16) % 50
    with contextlib.chdir(folder):
        Store.write("stores/gpt2", activations, hook="blocks.6.resid_post", token_ids=tokens)
        words = ["--sae.d_sae", "32", "--sae.k", "4", "--steps", "10", "--batch_tokens", "64", "--wandb", "off"]
        assert main(["train", "--store", "stores/gpt2", "--out", "runs/mc", *words]) == 0
        assert main(["features", "runs/mc", "--store", "stores/gpt2", "--format", "parquet"]) == 0
        for name in ("runs/mc_fc", "demo/runs/mutual_choice"):
            shutil.copytree("runs/mc", name)
    return folder, {"activations": activations, "tokens": tokens}


@pytest.mark.parametrize("page", RUN_HERE)
def test_blocks_of_python_run(page, prepared, monkeypatch):
    folder, names = prepared
    monkeypatch.chdir(folder)
    values = dict(names)
    for block in BLOCKS:
        if block.page == page and block.language == "python" and not block.needs:
            exec(compile(block.text, f"{page}:{block.line}", "exec"), values)
