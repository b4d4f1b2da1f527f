import json
import os
import socket
import subprocess
import sys
import time

from distsae.errors import CannotContinue
from distsae.store import claims as claims_module
from distsae.store.claims import STALE_AFTER, Claims, claimed
from distsae.store.location import touch


def test_a_claim_excludes_others_until_it_is_released(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("unit-000000")
        assert claimed(tmp_path, "unit-000000")
        assert not second.take("unit-000000")
        assert second.take("unit-000001")
        first.release("unit-000000")
        assert second.take("unit-000000")
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_dead_process_is_void(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "unit").write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid}))
    assert not claimed(tmp_path, "unit")
    with Claims(tmp_path) as claims:
        assert claims.take("unit")


def test_the_claim_of_another_machine_becomes_void_in_time(tmp_path):
    path = tmp_path / "unit"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert claimed(tmp_path, "unit")
    old = time.time() - STALE_AFTER - 5
    os.utime(path, (old, old))
    assert not claimed(tmp_path, "unit")


def test_renewed_while_held(tmp_path):
    with Claims(tmp_path, renew_every=0.02) as claims:
        claims.take("unit")
        os.utime(tmp_path / "unit", (0, 0))
        deadline = time.monotonic() + 60
        while (tmp_path / "unit").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert claimed(tmp_path, "unit")


def test_no_folder_no_claims(tmp_path):
    assert not claimed(tmp_path / "missing", "unit")


def test_an_empty_claim_becomes_void_in_time(tmp_path):
    (tmp_path / "unit").touch()
    assert claimed(tmp_path, "unit")
    os.utime(tmp_path / "unit", (1, 1))
    assert not claimed(tmp_path, "unit")
    with Claims(tmp_path) as claims:
        assert claims.take("unit")


def test_only_its_owner_releases_a_claim(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("unit")
        assert not second.take("unit")
        second.release("unit")
        assert claimed(tmp_path, "unit")


def test_renewing_continues_after_a_failure(tmp_path, monkeypatch):
    failing = [OSError("stale handle"), CannotContinue("no network")]

    def failing_touch(path, content):
        if failing:
            raise failing.pop()
        touch(path, content)

    monkeypatch.setattr(claims_module, "touch", failing_touch)
    with Claims(tmp_path, renew_every=0.01) as claims:
        claims.take("unit")
        os.utime(tmp_path / "unit", (1, 1))
        while (tmp_path / "unit").stat().st_mtime < 10:
            time.sleep(0.01)
    assert not failing


def test_claims_can_be_read_without_permission_to_write(tmp_path, monkeypatch):
    (tmp_path / "unit").write_text('{"host": "elsewhere", "pid": 1}')

    def refused(path, content):
        raise PermissionError(13, "not yours")

    monkeypatch.setattr("pathlib.Path.write_bytes", refused)
    assert claimed(tmp_path, "unit")
