"""The command line and YAML become a typed dataclass; wrong ones are refused in one line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from distsae.cli.parsing import from_keys, parse
from distsae.errors import WrongInput
from distsae.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Numbers.

    Args:
        rate: how fast.
        count: how many.
    """

    rate: Literal["auto"] | float = "auto"
    count: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A job.

    Args:
        places: where to, one
            or several.
        name: what it is called.
        mode: how it is done.
        quiet: whether it prints nothing.
        inner: its numbers.
        tags: words.
    """

    places: tuple[str, ...]
    name: str = "job"
    mode: Literal["on", "off"] = "on"
    quiet: bool = False
    inner: Inner = field(default_factory=Inner)
    tags: tuple[str, ...] = ()


def _parse(*argv):
    return parse(
        Outer, argv, prog="distsae job", examples="  distsae job here", help="does it", positionals=("places",)
    )


def test_defaults_and_positionals():
    assert _parse("here") == Outer(places=("here",))
    assert _parse("here", "there").places == ("here", "there")


def test_every_kind_of_value():
    found = _parse("x", "--mode", "off", "--quiet", "--inner.rate", "1e-3", "--inner.count", "3", "--tags", "[a, b]")
    assert found == Outer(places=("x",), mode="off", quiet=True, inner=Inner(rate=1e-3, count=3), tags=("a", "b"))
    assert _parse("x", "--no_quiet").quiet is False
    assert _parse("x", "--inner.rate", "auto").inner.rate == "auto"
    assert _parse("x", "--inner.rate", "2").inner.rate == 2.0


def test_yaml_words_and_numbers_are_those_of_yaml_1_2(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "mode: off\nname: no\nquiet: true\ninner: {rate: 1e-3, count: null}\ntags: [yes, on]\n"
    )
    found = _parse("x", "--config", str(tmp_path / "c.yaml"))
    assert found == Outer(places=("x",), mode="off", name="no", quiet=True, inner=Inner(rate=1e-3), tags=("yes", "on"))
    assert _parse("x", f"--config={tmp_path / 'c.yaml'}", "--inner.rate", "5.5").inner == Inner(rate=5.5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("x", "--inner.cuont", "1"), r"unknown key `inner.cuont`; did you mean 'inner.count'\?"),
        (("x", "--nmae", "1"), r"unknown key `nmae`; did you mean 'name'\?"),
        (("x", "--inner.count", "few"), r"`inner.count` \(=few\) must be a whole number or null"),
        (("x", "--inner.rate", "fast"), r"`inner.rate` \(=fast\) must be auto or a number"),
        (("x", "--mode", "maybe"), r"`mode` \(=maybe\) must be one of 'on', ?'off'"),
        (("x", "--config", "missing.yaml"), r"`config` \(=missing.yaml\) must be a YAML file that exists"),
        ((), "places"),
    ],
)
def test_refused_in_one_line(argv, message):
    with pytest.raises(WrongInput, match=message) as caught:
        _parse(*argv)
    assert "\n" not in str(caught.value)


def test_help_lists_every_key_with_its_text(capsys):
    with pytest.raises(SystemExit) as end:
        _parse("--help")
    assert not end.value.code
    words = " ".join(capsys.readouterr().out.split())
    for text in ("does it", "how fast", "how many", "where to, one or several", "what it is called", "how it is done"):
        assert text in words
    for key in ("--inner.rate", "--inner.count", "--mode", "--quiet", "--config", "distsae job here"):
        assert key in words


def test_arguments_override_the_file_wherever_they_stand(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("store: s\nout: from-file\nsteps: 7\n")
    for argv in (
        ["--out", "given", "--config", str(file)],
        ["--config", str(file), "--out", "given"],
        [f"--config={file}", "--out=given"],
    ):
        config = parse(TrainConfig, argv, prog="p", examples="", help="h")
        assert (config.out, config.steps) == ("given", 7)


def test_hyphens_serve_as_underscores(tmp_path):
    common = ("--store", "s", "--out", "o")

    def train(*argv):
        return parse(TrainConfig, [*common, *argv], prog="p", examples="", help="")

    assert train("--batch-tokens", "640", "--sae.d-sae=128").batch_tokens == 640
    assert train("--sae.d-sae=128", "--resume", "a-b--c").sae.d_sae == 128
    assert train("--resume", "a-b--c").resume == "a-b--c"
    assert _parse("here", "--no-quiet").quiet is False
    with pytest.raises(WrongInput, match="unknown key `batch-token`"):
        train("--batch-token", "640")


def test_values_by_key_are_checked_like_arguments():
    keys = {"places": ["a"], "quiet": True, "inner": {"rate": 1e-3}, "inner.count": None, "mode": "off", "tags": ["x"]}
    found = from_keys(Outer, keys)
    assert found == Outer(places=("a",), quiet=True, inner=Inner(rate=1e-3), mode="off", tags=("x",))
    assert from_keys(Outer, {"places": ["a"], "quiet": False, "inner.rate": -2.0}).inner.rate == -2.0
    for keys, message in [
        ({"places": ["a"], "inner": {"rat": 3}}, "unknown key `inner.rat`"),
        ({"places": ["a"], "inner.count": "many"}, "`inner.count`"),
        ({"places": ["a"], "config": "file.yaml"}, "unknown key `config`"),
    ]:
        with pytest.raises(WrongInput, match=message):
            from_keys(Outer, keys)


@pytest.mark.parametrize("key", ["é\nb", "\x1b[2J", "x" * 1000])
def test_an_unknown_key_of_any_form_is_named_in_one_short_line(tmp_path, key):
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"inner": {key: 1}}))
    with pytest.raises(WrongInput, match="unknown key ") as error:
        _parse("here", "--config", str(file))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300 + len(str(file))
