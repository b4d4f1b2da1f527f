import threading

import pytest

from distsae.errors import TornData, WrongInput
from distsae.reporting.features.work_folder import MANIFEST, WorkFolder

SETTINGS = {"sae": "a", "max_rows": 10}


def test_each_piece_is_done_once_by_whoever_is_free(tmp_path):
    names, done, counts = [f"piece-{n}" for n in range(12)], [], []

    def process():
        folder = WorkFolder(tmp_path / "out", SETTINGS)
        assert not folder.begin()
        folder.share(names, lambda name: done.append(name) or {"name": name}, counts.append, wait_seconds=0.01)
        assert all(folder.is_done(name) for name in names)

    threads = [threading.Thread(target=process) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(names)
    assert counts[-1] == 12
    assert WorkFolder(tmp_path / "out", SETTINGS).record("piece-3") == {"name": "piece-3"}


def test_finished_pieces_are_kept(tmp_path):
    folder = WorkFolder(tmp_path / "out", SETTINGS)
    folder.begin()

    def fail_at(name):
        if name == "c":
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        folder.share(["a", "b", "c"], fail_at)
    again = []
    folder.share(["a", "b", "c"], lambda name: again.append(name) or {})
    assert again == ["c"]


def test_the_last_piece_removes_the_unfinished_work(tmp_path):
    folder = WorkFolder(tmp_path / "out", SETTINGS)
    folder.begin()
    folder.share(["finish"], lambda name: folder.finish({"facts": {}}) or {})
    assert [path.name for path in folder.out.iterdir()] == [MANIFEST]
    assert WorkFolder(tmp_path / "out", SETTINGS).begin()


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused(tmp_path, finished):
    folder = WorkFolder(tmp_path / "out", SETTINGS)
    folder.begin()
    if finished:
        folder.finish({})
    WorkFolder(tmp_path / "out", SETTINGS).refuse_other_content()
    with pytest.raises(WrongInput, match="got pages with max_rows 10, not 20; choose another `out`"):
        WorkFolder(tmp_path / "out", SETTINGS | {"max_rows": 20}).refuse_other_content()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    WorkFolder(tmp_path / "out", SETTINGS).refuse_other_content()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(WrongInput, match="must be a new folder, or one of feature pages"):
        WorkFolder(tmp_path / "out", SETTINGS).refuse_other_content()
    with pytest.raises(WrongInput, match="must be a folder; got a file"):
        WorkFolder(tmp_path / "out" / "thesis.tex", SETTINGS).refuse_other_content()


def test_a_changed_file_is_found(tmp_path):
    folder = WorkFolder(tmp_path / "out", SETTINGS)
    folder.begin()
    file = folder.path("a.safetensors")
    file.write_bytes(b"one")
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    folder.share(["a"], lambda name: {"sha256": digest})
    folder.check_digest("a", file)
    file.write_bytes(b"two")
    with pytest.raises(TornData, match="its digest is not the one in its record"):
        folder.check_digest("a", file)
