from functools import partial

from distsae.producer.job_progress import JobProgress
from distsae.store import committed_units
from distsae.store.json_files import publish_json


def _commit(root, unit):
    publish_json(root / "commits" / f"unit-{unit:06d}.json", {})


def test_units_of_other_processes_count_and_the_number_never_falls(tmp_path):
    _commit(tmp_path, 0)
    with JobProgress(partial(committed_units, tmp_path, 4), [10, 10, 10, 5], look_every=0) as progress:
        assert progress.shown == 10
        progress.computed(1, 4)
        assert progress.shown == 14
        _commit(tmp_path, 3)
        progress.computed(1, 4)
        assert progress.shown == 23
        progress.computed(1, 2)
        progress.computed(2, 6)  # unit 1 is being written
        assert progress.shown == 31
        _commit(tmp_path, 1)
        progress.refresh()
        assert progress.shown == 31
        _commit(tmp_path, 2)  # by another process
        progress.refresh()
        assert progress.shown == 35
        progress.computed(2, 4)
        assert progress.shown == 35


def test_rate_is_that_of_all_processes(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    _commit(tmp_path, 0)
    with JobProgress(partial(committed_units, tmp_path, 10), [1000] * 10) as progress:
        now[0] = 20.0
        for unit in (5, 6, 7):
            _commit(tmp_path, unit)
        progress.computed(1, 1000)
    assert capsys.readouterr().err == "produce: 5,000/10,000 rows (50%), 200 rows/s, 25 s left\n"
