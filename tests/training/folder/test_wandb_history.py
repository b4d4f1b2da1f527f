"""Steps in wandb's own files, whole and cut at any place."""

from __future__ import annotations

import time

import wandb

from distsae.training.folder.wandb_history import last_step


def test_the_last_step_of_a_file_cut_anywhere(tmp_path):
    assert last_step(tmp_path, "abc") == -1
    run = wandb.init(project="p", mode="offline", dir=str(tmp_path), id="abc", settings=wandb.Settings(silent=True))
    for step in range(1, 201):
        run.log({"loss": 0.5, "text": "x" * 1000}, step=step)  # over several blocks
    run.finish()
    deadline = time.monotonic() + 60
    while last_step(tmp_path, "abc") < 200 and time.monotonic() < deadline:  # a busy machine writes the last one late
        time.sleep(0.1)
    assert last_step(tmp_path, "abc") == 200
    assert last_step(tmp_path, "other") == -1
    (file,) = tmp_path.glob("wandb/offline-run-*/run-abc.wandb")
    content = file.read_bytes()
    found = []
    for size in range(0, len(content), 9973):
        file.write_bytes(content[:size])
        found.append(last_step(tmp_path, "abc"))
    assert found == sorted(found)
    assert found[0] == -1
    assert 100 < found[-1] <= 200
