"""The lines of `distsae checkpoint`, from listings and verdicts that the test writes itself."""

from __future__ import annotations

from pathlib import Path

from distsae.checkpoint import save
from distsae.checkpoint.inspecting import Entry, Leftover, Listing, contents
from distsae.checkpoint.threaded_verifying import Verdict
from distsae.cli.checkpoint_tables import contents_lines, listing_lines, verdict_lines
from tests.checkpoint.samples import cut, whole

FOLDER = Path("run/checkpoints")


def _entry(step, *faults):
    path = FOLDER / f"step-0000000{step}"
    return Entry(path, step, None, 1234, 4, tuple(f"{path}/{fault}" for fault in faults), ())


def test_a_listing():
    entries = (_entry(3), _entry(6, "a is missing", "b is missing"))
    leftovers = tuple(Leftover(FOLDER / f".{word}", word, 1000, 0.0) for word in ("removed", "new"))
    lines = list(listing_lines(Listing(FOLDER, entries, leftovers, "step-00000006")))
    assert lines[0] == str(FOLDER)
    assert lines[2].split() == ["3", "1,234", "4", "unknown", "whole", "<-", "newest", "whole"]
    assert lines[3].endswith("  damaged: a is missing and 1 more  <- latest")
    assert lines[4].startswith(".removed: 1,000 bytes, changed 19")
    assert lines[4].endswith("; partly deleted; the next save removes it")
    assert lines[5].endswith("; unknown")
    assert lines[6:] == ["2 checkpoints and 2 leftovers, 4,468 bytes"]


def test_an_empty_folder_and_a_name_that_is_not_there():
    assert list(listing_lines(Listing(FOLDER, (), (), None))) == [str(FOLDER), "0 checkpoints, 0 bytes"]
    lines = list(listing_lines(Listing(FOLDER, (), (), "step-00000009\x1b")))
    assert lines[1] == f"{FOLDER / 'latest'} names 'step-00000009\\x1b', which is not there"


def test_contents_of_a_checkpoint(tmp_path):
    facts = {"config": {"seed": 7, "mesh": {"data": 1}}}
    lines = [line.split() for line in contents_lines(contents(save(tmp_path, 3000, cut(whole(1), 1, 0), facts)))]
    assert ["step", "3,000"] in lines
    assert ["tokens", "unknown"] in lines
    assert ["looks_whole", "yes"] in lines
    assert ["config.seed", "7"] in lines
    assert ["config.mesh.data", "1"] in lines
    assert lines[-1][0] == "all"


def test_verdicts():
    sound, faulty, gone = (
        Verdict(FOLDER, 1, 20, (), gone=False),
        Verdict(FOLDER, 2, 2000, ("a is missing",), gone=False),
        Verdict(FOLDER, 2, 2000, (), gone=True),
    )
    assert list(verdict_lines(sound)) == [f"{FOLDER}: 1 file, 20 bytes: sound"]
    assert list(verdict_lines(faulty)) == ["a is missing", f"{FOLDER}: 1 fault in 2 files, 2,000 bytes"]
    assert list(verdict_lines(gone)) == [f"{FOLDER}: deleted meanwhile"]
