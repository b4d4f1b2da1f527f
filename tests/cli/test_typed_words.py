"""The words of a command line, as jsonargparse gets them."""

import pytest

from distsae.cli.parsing import parse
from distsae.cli.train_arguments import TrainArguments
from distsae.cli.typed_words import TypedWords, nearest_key
from distsae.errors import WrongInput
from distsae.evaluation.config import EvaluateConfig
from distsae.producer import ProduceConfig

KEYS = TypedWords(
    {"steps": int | None, "names": tuple[str, ...], "quiet": bool, "sae.k": int, "place": str},
    frozenset({"quiet"}),
    ("place",),
    ["names", "place", "quiet", "sae", "sae.k", "steps"],
)


def _produce(*argv):
    given = ("--model", "m", "--corpus", "c", "--out", "o", *(() if "--hooks" in argv else ("--hooks", "[a]")))
    return parse(ProduceConfig, [*given, *argv], prog="p", examples="", help="")


def _train(*argv):
    return parse(TrainArguments, ["--store", "s", "--out", "o", *argv], prog="p", examples="", help="")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--steps", "1e3"], ["--steps", "1000"]),
        (["--steps=-5"], ["--steps=-5"]),
        (["--quiet", "--steps", "3"], ["--quiet", "--steps", "3"]),
        (["--quiet", "false"], ["--no_quiet"]),
        (["--quiet=no"], ["--no_quiet"]),
        (["--no_quiet", "false"], ["--quiet"]),
        (["--quiet", "here"], ["--quiet", "here"]),
        (["--sae", "{k: 4}"], ["--sae.k", "4"]),
        (["here", "--steps", "3"], ["--steps", "3", "here"]),
        (["--unknown", "3", "here"], ["--unknown", "3", "here"]),
        (["--help"], ["--help"]),
        (["-h"], ["-h"]),
    ],
)
def test_words(argv, words):
    assert KEYS.typed(argv) == words


def test_a_file_is_written_out_first_and_gives_a_positional_that_is_not_given(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("steps: 1e3\nsae: {k: 4}\nquiet: off\nplace: there\n")
    expected = ["--steps", "1000", "--sae.k", "4", "--no_quiet", "--steps", "5"]
    assert KEYS.typed(["--steps", "5", "--config", str(file)]) == [*expected, "there"]
    assert KEYS.typed(["--steps", "5", f"--config={file}", "here"]) == [*expected, "here"]
    (tmp_path / "sae.yaml").write_text("k: 8\n")
    assert KEYS.typed(["--sae", str(tmp_path / "sae.yaml")]) == ["--sae.k", "8"]
    file.write_text("sae:\n")
    assert KEYS.typed(["--config", str(file)]) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sae: 3", "`sae` (=3) must hold keys of its own in FILE; use `sae.k`, say"),
        ("sae: {kk: 3}", "unknown key `sae.kk` in FILE; did you mean 'sae.k'?"),
        ("saes: {k: 3}", "unknown key `saes` in FILE; did you mean 'sae'?"),
        ("k: 3", "unknown key `k` in FILE; did you mean 'sae.k'?"),
        ("quiet: 1", "`quiet` (=1) must be true or false"),
        ("steps: 1:30", "`steps` (=1:30) must be a whole number or null"),
        ("place: 0100", "`place` (=100) must be text; put it in quotes"),
    ],
)
def test_what_a_file_must_not_hold(tmp_path, content, message):
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(WrongInput) as caught:
        KEYS.typed(["--config", str(file)])
    assert str(caught.value) == message.replace("FILE", str(file))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps"], "`steps` must have a value; got none; give one after --steps"),
        (["--steps", "--quiet"], "`steps` must have a value; got none; give one after --steps"),
        (["--quiet", "0"], "`quiet` (=0) must be true or false; use --quiet or --no_quiet, without a value"),
        (["--no_quiet=maybe"], "`quiet` (=maybe) must be true or false; use --quiet or --no_quiet, without a value"),
        (["--sae", "3"], "`sae` (=3) must hold keys of its own; use `sae.k`, say"),
        (["--sae", "{"], "`sae` (='{') must hold keys of its own; use `sae.k`, say"),
    ],
)
def test_what_a_command_line_must_not_hold(argv, message):
    with pytest.raises(WrongInput) as caught:
        KEYS.typed(argv)
    assert str(caught.value) == message


@pytest.mark.parametrize("argv", [["--prepend_bos", "false"], ["--no_prepend_bos"], ["--prepend-bos=no"]])
def test_ways_to_say_no(argv):
    assert not _produce(*argv, "--seed", "3").prepend_bos
    assert _produce("--prepend_bos", "true", "--seed", "3").prepend_bos


@pytest.mark.parametrize("hooks", ["blocks.3.resid_post", "[blocks.3.resid_post]", '["blocks.3.resid_post"]'])
def test_a_hook_needs_no_brackets(hooks):
    assert _produce("--hooks", hooks).hooks == ("blocks.3.resid_post",)
    assert _produce("--hooks", f"{hooks.strip('[]')},b").hooks == ("blocks.3.resid_post", "b")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--d_sae", "64"], "unknown key `d_sae`; did you mean 'sae.d_sae' or 'sweep.d_sae'?"),
        (["--k=4"], "unknown key `k`; did you mean 'sae.k' or 'sweep.k'?"),
        (["--feature", "2"], "unknown key `feature`; did you mean 'mesh.feature'?"),
        (["stray"], "unexpected argument `stray`; give it after its key; a list is one word, such as '[a, b]'"),
    ],
)
def test_the_key_that_was_meant(argv, message):
    with pytest.raises(WrongInput) as caught:
        _train(*argv)
    assert str(caught.value) == message


def test_a_missing_key_is_named():
    with pytest.raises(WrongInput, match="`store` must be given; got none"):
        parse(EvaluateConfig, ["runs/mc"], prog="p", examples="", help="", positionals=("run",))


def test_nearest_keys():
    known = ["mesh", "mesh.data", "optimizer", "optimizer.lr", "sweep", "sweep.lr"]
    assert nearest_key("optimiser.lr", known) == "; did you mean 'optimizer.lr'?"
    assert nearest_key("lr", known) == "; did you mean 'optimizer.lr' or 'sweep.lr'?"
    assert nearest_key("mash", known, group=True) == "; did you mean 'mesh'?"
    assert nearest_key("zebra", known) == ""
