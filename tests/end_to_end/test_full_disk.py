"""A disk that fills up while a store is produced: one clear line, nothing half-done in sight, and a second run ends it.

The disk is a small tmpfs. A producer alone writes the same files in the same order every time, so the size that an
uninterrupted store has at some moment is the size at which the disk is full at that moment.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distsae.cli.main import main
from distsae.errors import WrongInput
from distsae.store import Store
from tests.end_to_end.producers import NO_HARM, Job, committed, compare, read_rows, read_unit, run_distsae
from tests.end_to_end.small_disk import LARGE, PAGE, disk

__all__ = ["disk"]


@pytest.fixture(scope="module")
def job(tiny_model_dir: Path, tiny_corpus: Path) -> Job:
    """Four units; many chunks, so that commit records are several pages long; all hooks, so that the seal is."""
    kinds = ("resid_pre", "attn_out", "mlp_out", "mlp_hidden", "resid_post")
    hooks = [f"blocks.{block}.{kind}" for block in (0, 1) for kind in kinds]
    settings = {"hooks": f"[{', '.join(hooks)}]", "unit_rows": 2_500, "max_rows": 7_000, "chunk_rows": 128}
    return Job(tiny_model_dir, tiny_corpus, settings)


@pytest.fixture(scope="module")
def good(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted store."""
    out = tmp_path_factory.mktemp("good") / "store"
    assert main(job.arguments(out)) == 0
    assert len(committed(out)) == 4
    return out


def room_for(good: Path, moment: str) -> int:
    """Bytes of the disk that is full at a moment in the life of a store: halfway through the file written then."""
    contexts, begun = _pages(*good.glob("contexts/*/*")), _pages(good / "attributes.json")
    records = committed(good)
    attempts = [_pages(*(good / "data" / record.stem).rglob("*")) for record in records]
    claim = PAGE
    if moment == "tokenising":
        return contexts // 2
    if moment == "unit":
        return contexts + begun + attempts[0] + _pages(records[0]) + attempts[1] // 2
    if moment == "commit":
        return contexts + begun + sum(attempts[:2]) + _pages(records[0]) + claim + _half(records[1])
    assert moment == "seal"
    return contexts + begun + sum(attempts) + _pages(*records) + _half(good / "dataset.json")


@pytest.mark.parametrize("moment", ["tokenising", "unit", "commit", "seal"])
def test_full_while(moment, disk, job, good, capfd):
    out = disk.path / "store"
    disk.resize(room_for(good, moment))
    capfd.readouterr()
    assert main(job.arguments(out)) == 1
    _one_line_names(out, capfd.readouterr().err)
    done = committed(out)
    assert len(done) == {"tokenising": 0, "unit": 1, "commit": 1, "seal": 4}[moment]
    if moment == "commit":  # the attempt was whole, and its record was what did not fit
        assert _sizes(out / "data" / "unit-000001") == _sizes(good / "data" / "unit-000001")
    _nothing_half_done(out, good)

    before = {record: record.stat().st_mtime_ns for record in done}
    disk.resize(LARGE)
    assert main(job.arguments(out)) == 0
    assert {record: record.stat().st_mtime_ns for record in done} == before
    _whole(out, good)


def test_started_again_on_a_full_disk(disk, job, good):
    """By a scheduler that does not know why the first one failed, in processes of their own as there."""
    out = disk.path / "store"
    disk.resize(room_for(good, "unit"))
    assert main(job.arguments(out)) == 1
    assert _claims(out) == []
    ballast = disk.fill()
    ended = run_distsae(job.arguments(out))
    assert ended.returncode == 1
    _one_line_names(out, ended.stderr)
    assert len(committed(out)) == 1
    assert _claims(out) == []  # else those that come after would wait
    _nothing_half_done(out, good)

    ballast.unlink()
    disk.resize(LARGE)
    ended = run_distsae(job.arguments(out))
    assert ended.returncode == 0, ended.stderr
    _whole(out, good)


def _one_line_names(out: Path, err: str) -> None:
    """One line of error, which says where, why, and what to do; the rest is progress."""
    assert "Traceback" not in err, err
    (line,) = (line for line in err.splitlines() if line.startswith("distsae: error"))
    assert str(out) in line
    assert "full disk" in line
    assert "; make room: " in line


def _nothing_half_done(out: Path, good: Path) -> None:
    """What is committed is whole and right, and there is no store yet for those who read."""
    for record in committed(out):
        there, right = read_unit(out, record), read_unit(good, good / "commits" / record.name)
        assert there.keys() == right.keys()
        assert all(np.array_equal(there[name].view(np.uint8), right[name].view(np.uint8)) for name in right)
    assert not (out / "dataset.json").exists()
    with pytest.raises(WrongInput, match=f"{len(committed(out))} of 4 units" if committed(out) else "must be"):
        Store.open(out)


def _claims(out: Path) -> list[str]:
    return [path.name for path in (out / "claims").iterdir()]


def _whole(out: Path, good: Path) -> None:
    """The store is the uninterrupted one, and nothing is left of what failed once it is collected."""
    assert compare(read_rows(good), read_rows(out)) == NO_HARM
    assert (out / "dataset.json").read_bytes() == (good / "dataset.json").read_bytes()
    assert main(["store", "verify", str(out)]) == 0
    assert main(["store", "collect", str(out)]) == 0
    assert len(list((out / "data").glob("*/*"))) == len(committed(out))
    assert [path for path in out.rglob(".*") if path.is_dir()] == []


def _pages(*files: Path) -> int:
    return sum(-(-file.stat().st_size // PAGE) * PAGE for file in files if file.is_file())


def _half(file: Path) -> int:
    pages = _pages(file) // PAGE
    assert pages >= 4, f"{file} is too short to be cut by a disk that is full to a page"
    return pages // 2 * PAGE


def _sizes(unit: Path) -> dict[str, int]:
    """Files of the only attempt of a unit."""
    (attempt,) = unit.iterdir()
    return {str(file.relative_to(attempt)): file.stat().st_size for file in attempt.rglob("*") if file.is_file()}
