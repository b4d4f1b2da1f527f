"""Whatever becomes of a run's checkpoints, the same command says what is wrong with them and goes on, or refuses to.

A run stopped after its second checkpoint is copied, its files are damaged, and it is started again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from distsae.cli.main import main
from distsae.exit_codes import DONE, FAILED, WRONG_INPUT
from tests.checkpoint.bomb import plant_with_digests, raw, torch_archive
from tests.end_to_end.launching import launch, train_words

FIRST = 6
SECOND = 12
STEPS = 15
OLDER, NEWER = f"step-{FIRST:08d}", f"step-{SECOND:08d}"
FILES = ("feature-00000-of-00001.safetensors", "replicated.safetensors", "manifest.json", "manifest.json.sha256")


def _command(store: Path, out: Path, *more: str) -> list[str]:
    values = {
        "store": store,
        "out": out,
        "hook": "blocks.0.resid_post",
        "steps": STEPS,
        "batch_tokens": 128,
        "sae.d_sae": 64,
        "sae.k": 4,
        "optimizer.lr": 2e-3,
        "checkpoint.every": FIRST,
        "checkpoint.keep_last": 9,
        "log_every": 1,
        "wandb": "off",
    }
    return [*train_words(values), *more]


@pytest.fixture(scope="module")
def finished(tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(_command(tiny_store, out)) == DONE
    assert sorted(file.name for file in (out / "checkpoints" / NEWER).iterdir()) == sorted(FILES)
    return out


@pytest.fixture
def stopped(finished, tmp_path):
    """The run as a kill leaves it after step 13."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "sae")
    shutil.rmtree(out / "checkpoints" / f"step-{STEPS:08d}")
    (out / "checkpoints" / "latest").write_text(NEWER + "\n")
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[: SECOND + 1]))
    return out


def _damage(file: Path, how: str, marker: Path) -> None:
    content = file.read_bytes()
    match how:
        case "truncated":
            file.write_bytes(content[:-1])
        case "deleted":
            file.unlink()
        case "flipped":
            middle = len(content) // 2
            file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "pickle":
            file.write_bytes(raw(marker))
        case "archive of torch":
            file.write_bytes(torch_archive(marker))


def _loss(out: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())]


def _assert_the_older_is_used(out: Path, finished: Path, said: str, told: str) -> None:
    """The newer one is refused with what is `told`, and the run ends as if it had never been."""
    (line,) = [line for line in said.splitlines() if line.startswith("not resumed from ")]
    assert f"{NEWER} is refused: " in line
    assert told in line
    assert f"resumed from {out / 'checkpoints' / OLDER}, step {FIRST}" in said
    assert (out / "sae" / "sae.safetensors").read_bytes() == (finished / "sae" / "sae.safetensors").read_bytes()
    assert _loss(out) == _loss(finished)


@pytest.mark.parametrize("how", ["truncated", "deleted", "flipped", "pickle", "archive of torch"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_used(name, how, stopped, finished, tiny_store, capsys):
    marker = stopped.parent / "executed"
    _damage(stopped / "checkpoints" / NEWER / name, how, marker)
    assert main(_command(tiny_store, stopped)) == DONE
    _assert_the_older_is_used(stopped, finished, capsys.readouterr().err, told=name)
    assert not marker.exists()


def _mixed(point: Path, older: Path) -> str:
    shutil.copy(older / FILES[0], point / FILES[0])
    return FILES[0]


def _mixed_but_for_one_file(point: Path, older: Path) -> str:
    for name in FILES[1:]:
        shutil.copy(older / name, point / name)
    return FILES[0]


def _empty(point: Path, older: Path) -> str:
    for file in point.iterdir():
        file.unlink()
    return "manifest.json is missing"


def _of_another_format(point: Path, older: Path) -> str:
    fields = json.loads((point / "manifest.json").read_bytes())
    content = json.dumps(fields | {"format_version": 99}).encode()
    (point / "manifest.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (point / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")
    return "must have format version 1; got 99"


def _gone(point: Path, older: Path) -> str:
    shutil.rmtree(point)
    return "is not there"


@pytest.mark.parametrize(
    "damage", [_mixed, _mixed_but_for_one_file, _empty, _of_another_format, _gone], ids=lambda damage: damage.__name__
)
def test_a_damaged_folder_is_named_and_the_checkpoint_before_is_used(damage, stopped, finished, tiny_store, capsys):
    told = damage(stopped / "checkpoints" / NEWER, stopped / "checkpoints" / OLDER)
    assert main(_command(tiny_store, stopped)) == DONE
    _assert_the_older_is_used(stopped, finished, capsys.readouterr().err, told)


def _contents(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("damage", [_empty, _of_another_format, _gone], ids=lambda damage: damage.__name__)
def test_with_no_whole_checkpoint_a_run_is_not_begun_anew_over_the_old_one(damage, stopped, tiny_store, capsys):
    for name in (OLDER, NEWER):
        damage(stopped / "checkpoints" / name, stopped / "checkpoints" / OLDER)
    before = _contents(stopped)
    assert main(_command(tiny_store, stopped)) == FAILED
    said = capsys.readouterr().err
    assert f"{NEWER} is refused" in said
    last = said.splitlines()[-1]
    assert last.startswith("distsae: error: none of the ")
    assert f"checkpoints in {stopped / 'checkpoints'} is whole" in last
    assert "to start from step 0" in last
    assert _contents(stopped) == before
    # What it says to do does it.
    shutil.rmtree(stopped / "checkpoints")
    assert main(_command(tiny_store, stopped)) == DONE
    assert "steps 0 to 15" in capsys.readouterr().err


def test_a_finished_run_whose_checkpoints_were_deleted_is_not_trained_again(finished, tiny_store, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "checkpoints")
    before = _contents(out)
    assert main(_command(tiny_store, out)) == WRONG_INPUT
    assert f"`out` (={out}) must have a checkpoint to resume from; got a finished SAE without one" in (
        capsys.readouterr().err
    )
    assert _contents(out) == before


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_that_is_asked_for_is_refused(name, stopped, tiny_store, tmp_path, capsys):
    point = stopped / "checkpoints" / NEWER
    _damage(point / name, "flipped", tmp_path / "executed")
    assert main(_command(tiny_store, tmp_path / "new", "--resume", str(point))) == FAILED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"distsae: error: `resume` (={point}) must be an intact checkpoint; got a damaged one: ")
    assert name in said
    assert not (tmp_path / "new" / "sae").exists()


@pytest.mark.parametrize("make", [raw, torch_archive], ids=["pickle", "archive of torch"])
@pytest.mark.parametrize("name", FILES[:3])
def test_a_pickle_that_digests_vouch_for_is_not_executed(name, make, stopped, tiny_store, tmp_path, capsys):
    """Somebody who can write digests can have any checkpoint taken for whole, but can have no code run."""
    marker = tmp_path / "executed"
    plant_with_digests(stopped / "checkpoints" / NEWER, name, make(marker))
    main(_command(tiny_store, stopped))
    said = capsys.readouterr().err
    assert name in said, said
    assert not marker.exists()


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["feature-00001-of-00002.safetensors", "replicated.safetensors", "manifest.json"])
def test_two_processes_refuse_it_together_and_say_so_once(name, stopped, finished, tiny_store):
    """The newer checkpoint is that of two processes, and both take up the older one, of one process."""
    two = ("--mesh.feature", "2")
    for later in (NEWER, f"step-{STEPS:08d}"):
        shutil.rmtree(stopped / "checkpoints" / later, ignore_errors=True)
    (stopped / "checkpoints" / "latest").write_text(OLDER + "\n")
    assert launch(_command(tiny_store, stopped, *two)).returncode == DONE
    shutil.rmtree(stopped / "checkpoints" / f"step-{STEPS:08d}")
    shutil.rmtree(stopped / "sae")
    _damage(stopped / "checkpoints" / NEWER / name, "flipped", stopped.parent / "executed")
    (stopped / "checkpoints" / "latest").write_text(NEWER + "\n")
    done = launch(_command(tiny_store, stopped, *two))
    assert done.returncode == DONE, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("not resumed from ")]
    assert f"{NEWER} is refused: " in line
    assert name in line
    assert done.stderr.count(f"resumed from {stopped / 'checkpoints' / OLDER}, step {FIRST}") == 1
    for (step, loss), (_, expected) in zip(_loss(stopped), _loss(finished), strict=True):
        assert loss == pytest.approx(expected, rel=1e-4), step
