from distsae.producer.job_progress import JobProgress
from distsae.store.durable import publish_json


def test_counts_what_others_commit_and_never_goes_back(tmp_path):
    def commit(unit):
        publish_json(tmp_path / "commits" / f"unit-{unit:06d}.json", {})

    commit(0)
    with JobProgress(tmp_path, [10, 10, 10, 5], look_every=0) as progress:
        assert progress._shown == 10
        progress.working(4)
        assert progress._shown == 14
        commit(3)
        progress.working(4)
        assert progress._shown == 23
        commit(1)
        progress.unit_ended()
        assert progress._shown == 25
        progress.working(6)
        progress.unit_ended()  # another process committed it first
        assert progress._shown == 31
        commit(2)
        progress.refresh()
        assert progress._shown == 35
