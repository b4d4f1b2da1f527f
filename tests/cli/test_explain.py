import json

import pytest

from distsae.cli.main import main
from tests.reporting.explanations.chat_server import Fault, serving
from tests.reporting.explanations.samples import own_pages

KEY = "sk-never-to-be-seen"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mc"
    own_pages(folder / "features")
    return folder


def _words(run, server, *more):
    return ["explain", str(run), "--endpoint", server.endpoint, "--model", "m", *more]


def test_a_table_and_where_it_is(run, capsys):
    with serving() as server:
        assert main(_words(run, server, "--max_features", "4")) == 0
    shown = capsys.readouterr()
    out = run / "features" / "explanations"
    assert shown.out.splitlines()[1].split()[:3] == ["detection", "1.000", "[1.000,"]
    assert "\n4 of 4 features have an explanation\nof 32 non-activating contexts" in shown.out
    assert shown.out.endswith(f"\nwrote {out}\n")
    assert "4 features, 36 requests, about" in shown.err
    assert "explaining: 4/4 features" in shown.err
    assert json.loads((out / "explanations.json").read_text())["settings"]["model"] == "m"


def test_features_by_number(run, tmp_path):
    with serving() as server:
        assert main(_words(run, server, "--features", "[3, 1]", "--out", str(tmp_path / "o"))) == 0
    lines = (tmp_path / "o" / "explanations.jsonl").read_text().splitlines()
    assert {json.loads(line)["feature"] for line in lines} == {1, 3}


def test_a_dry_run(run, capsys):
    assert main(["explain", str(run), "--dry_run"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "sends text of the corpus to an endpoint (no model given, without a key)" in shown.out


@pytest.mark.parametrize("echo", [False, True])
def test_the_key_is_sent_and_never_written(run, tmp_path, capfd, monkeypatch, echo):
    monkeypatch.setenv("A_KEY", KEY)
    body = json.dumps({"choices": [{"message": {"content": f"EXPLANATION: {KEY} [1, 0, 1, 0, 1]"}}]}).encode()
    failed = Fault(500, f"bad key {KEY}".encode())
    faults = lambda number: failed if number == 20 else Fault(200, body) if echo else None  # noqa: E731
    with serving(fault=faults) as server:
        assert main(_words(run, server, "--out", str(tmp_path / "o"), "--key_env", "A_KEY", "--max_features", "3")) == 0
    assert set(server.keys) == {f"Bearer {KEY}"}
    shown = capfd.readouterr()
    assert KEY not in shown.out + shown.err + repr(server.requests)
    assert "with the key in A_KEY" in shown.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert not any(KEY.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        (Fault(401, b'{"error": {"message": "wrong key"}}'), 1, "refused the request: status 401: wrong key"),
        (Fault(404, b"<html>\nnot here"), 1, "status 404: <html> not here"),
        (Fault(200, b"<html>"), 1, "failed in 1 try: its answer is not of the API: <html>"),
        (Fault(200, b"{", cut=True), 1, "failed in 1 try"),
    ],
)
def test_a_broken_endpoint_is_one_line(run, tmp_path, capsys, fault, code, line):
    with serving(fault=lambda number: fault) as server:
        assert main(_words(run, server, "--retries", "0", "--out", str(tmp_path / "o"))) == code
    errors = [
        text for text in capsys.readouterr().err.splitlines() if not text.startswith(("sends text", "explaining"))
    ]
    assert len(errors) == 1
    assert errors[0].startswith("distsae: error: the endpoint http://127.0.0.1:")
    assert line in errors[0]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "`endpoint` must be given"),
        (["--endpoint", "http://h/v1"], "`model` must be given"),
        (["--features", "[99]", "--dry_run"], "`features` (=[99]) must be below the number of features; got 99 of 12"),
        (["--features", "x", "--dry_run"], "`features`"),
        (["--concurency", "3", "--dry_run"], "did you mean"),
        (["--endpoint", "http://h/v1", "--model", "m", "--key_env", "NO_SUCH_KEY"], "`key_env` (=NO_SUCH_KEY)"),
    ],
)
def test_wrong_input_is_one_line(run, tmp_path, capsys, words, error):
    assert main(["explain", str(run), "--out", str(tmp_path / "o"), *words]) == 2
    shown = capsys.readouterr()
    assert error in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_no_pages(tmp_path, capsys):
    assert main(["explain", str(tmp_path), "--dry_run"]) == 2
    assert "run `distsae features` first" in capsys.readouterr().err
