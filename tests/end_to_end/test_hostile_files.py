"""Everything that distsae parses, with hostile content: one line or success, soon, in little memory; no traceback.

A stranger also writes checksums and digests. So they are made to fit, and what is behind them is reached.
"""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from hypothesis import strategies as st
from safetensors.torch import save

from distsae.checkpoint import load
from distsae.checkpoint import save as save_checkpoint
from distsae.cli.main import main
from distsae.cli.parsing import parse
from distsae.model import SAE
from distsae.model.sae_config import SAEConfig
from distsae.store import Store
from distsae.store.attributes import StoreAttributes
from distsae.store.json_files import _checksum
from distsae.training import TrainConfig
from distsae.training.folder.saved_facts import check_saved_facts
from tests.hostile import as_json, changed, damaged, fuzz, try_all
from tests.store.synthetic import attributes, write_store


def _command(*argv):
    assert main(list(argv)) in (0, 1, 2)


RECORDS = ["attributes.json", "dataset.json", "commits/unit-000000.json", "commits/unit-000003.json", "reading.json"]


@fuzz
@pytest.mark.parametrize(
    ("file", "bounded"),
    [(file, bounded) for file in RECORDS for bounded in (False, True) if bounded or file != "reading.json"],
)
def test_records_of_a_store(tmp_path, examples, file, bounded, capsys):
    store = write_store(tmp_path / "s", attributes(keep_units=2 if bounded else None))
    other = write_store(tmp_path / "other", attributes(corpus_fingerprint="d", seed=1))
    path = store.path / file
    if file == "reading.json":
        content = {"released": 0, "reader": "r"}
    else:
        content = json.loads(path.read_text()) if path.exists() else {}
    content.pop("checksum", None)

    def put(values):
        if isinstance(values, bytes):
            path.write_bytes(values)
            return
        _adopt(store.path, file, values)
        path.write_text(json.dumps({**values, "checksum": _checksum(values)}, indent=1))

    def read():
        for action in ("info", "status", "verify"):
            _command("store", action, str(store.path))
        _command("store", "merge", str(other.path), str(store.path), "--out", str(tmp_path / "out"))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        capsys.readouterr()
        found = Store.open(store.path)
        for split in ("train", "heldout"):
            found.chunks(split)
        for hook in found.attributes.hooks:
            found.statistics(hook)
            found.buffer_bytes(hook)

    try_all(examples, changed(content) | damaged(as_json(content)), put, read)
    assert not [found for found in tmp_path.iterdir() if found.name not in ("s", "other")]


def _adopt(root, file, values):
    """Gives both files of attributes the same fingerprint, so that a change of either is not the end."""
    try:
        if file == "dataset.json" and isinstance(values, dict):
            changed_attributes = values["attributes"]
            values["fingerprint"] = StoreAttributes.from_json(changed_attributes).fingerprint()
            text = json.dumps({**changed_attributes, "checksum": _checksum(changed_attributes)}, indent=1)
            (root / "attributes.json").write_text(text)
            for path in (root / "commits").iterdir():
                record = {**json.loads(path.read_text()), "fingerprint": values["fingerprint"]}
                del record["checksum"]
                path.write_text(json.dumps({**record, "checksum": _checksum(record)}, indent=1))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        pass


@fuzz
def test_claims(tmp_path, examples, capsys):
    store = write_store(tmp_path / "s")
    (store.path / "dataset.json").unlink()
    path = store.path / "claims" / "unit-000000"
    path.parent.mkdir(exist_ok=True)
    content = {"host": "h", "pid": 1, "id": "a"}

    def put(values):
        path.write_bytes(values if isinstance(values, bytes) else as_json(values))

    def read():
        _command("store", "status", str(store.path))
        _command("store", "collect", str(store.path))
        capsys.readouterr()

    try_all(examples, changed(content) | damaged(as_json(content)), put, read)


@fuzz
def test_metadata_of_arrays(tmp_path, examples):
    """Zarr's own metadata, with the record's checksum made to fit."""
    from distsae.store.crc32c import crc32c

    store = write_store(tmp_path / "s")
    record_path = store.path / "commits" / "unit-000000.json"
    path = store.path / "data" / store.units[0].attempt / "act" / "c" / "zarr.json"
    content = json.loads(path.read_text())

    def put(values):
        encoded = values if isinstance(values, bytes) else as_json(values)
        path.write_bytes(encoded)
        record = json.loads(record_path.read_text())
        del record["checksum"]
        record["files"]["act/c/zarr.json"] = [len(encoded), int(crc32c(np.frombuffer(encoded, np.uint8)))]
        record_path.write_text(json.dumps({**record, "checksum": _checksum(record)}, indent=1))

    def read():
        found = Store.open(store.path)
        for chunk in found.chunks("train"):
            if chunk.unit == 0:
                found.read_chunk("c", chunk)

    try_all(examples, changed(content) | damaged(as_json(content)), put, read)


@fuzz
def test_manifests_and_facts_of_checkpoints(tmp_path, examples, capsys):
    tensors = {"W": torch.arange(12.0).view(4, 3), "s": torch.tensor(3), "b": torch.zeros(5, dtype=torch.bfloat16)}
    facts = {
        "store_fingerprint": "f",
        "config": {"allocation": "mutual_choice", "batch_tokens": 8, "sae": {"d_sae": 4, "k": 2}},
        "switch_step": 3,
        "underused": {"share": 0.0, "dead_share": 0.0, "zipf_s": None},
        "meter": {"steps": 1, "seconds": 1.5},
        "forecasts": {"rule": {"cut": 0.5, "move": 0.01}},
        "alarms": ["x"],
    }
    save_checkpoint(tmp_path / "checkpoints", 3, tensors, facts)
    (folder,) = [path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]
    path = folder / "manifest.json"
    content = json.loads(path.read_text())

    def put(values):
        encoded = values if isinstance(values, bytes) else as_json(values)
        path.write_bytes(encoded)
        (folder / "manifest.json.sha256").write_text(f"{hashlib.sha256(encoded).hexdigest()}  manifest.json\n")

    def read():
        for action in ("info", "verify", "list"):
            _command("checkpoint", action, str(folder if action != "list" else folder.parent))
        capsys.readouterr()
        target = {"W": torch.zeros(4, 3), "s": torch.tensor(0), "b": torch.zeros(5, dtype=torch.bfloat16)}
        check_saved_facts(load(folder, target), folder)

    try_all(examples, changed(content) | damaged(as_json(content)), put, read)


def _sae(folder):
    cfg = SAEConfig(
        d_in=4,
        d_sae=6,
        k=2,
        allocation="feature_choice",
        hook_name="h",
        hook_layer=1,
        model_name="m",
        context_size=8,
        prepend_bos=True,
    )
    shapes = {
        "W_enc": (4, 6),
        "W_dec": (6, 4),
        "b_enc": (6,),
        "b_dec": (4,),
        "threshold": (6,),
        "quota_per_token": (6,),
    }
    SAE(cfg, **{name: torch.ones(shape) for name, shape in shapes.items()}).save(folder)
    return folder


@fuzz
def test_the_config_of_an_sae(tmp_path, examples):
    path = _sae(tmp_path) / "config.json"
    content = json.loads(path.read_text())
    put = lambda values: path.write_bytes(values if isinstance(values, bytes) else as_json(values))  # noqa: E731
    try_all(
        examples, changed(content) | damaged(as_json(content)), put, lambda: SAE.load(tmp_path).encode(torch.ones(2, 4))
    )


@fuzz
def test_the_weights_of_an_sae(tmp_path, examples):
    file = _sae(tmp_path) / "sae.safetensors"
    config = json.loads((tmp_path / "config.json").read_text())
    del config["weights_sha256"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoded = file.read_bytes()
    size = int.from_bytes(encoded[:8], "little")
    header, data = json.loads(encoded[8 : 8 + size]), encoded[8 + size :]

    def put(values):
        if not isinstance(values, bytes):
            text = as_json(values)
            values = len(text).to_bytes(8, "little") + text + data
        file.write_bytes(values)

    shapes = st.lists(st.integers(0, 7), max_size=3)
    dtypes = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64])
    others = st.dictionaries(
        st.sampled_from(["W_enc", "W_dec", "b_enc", "b_dec", "threshold", "more"]),
        st.tuples(shapes, dtypes),
        max_size=6,
    ).map(lambda tensors: save({name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in tensors.items()}))
    try_all(examples, changed(header) | damaged(encoded) | others, put, lambda: SAE.load(tmp_path))


CONFIG = {
    "store": "s",
    "out": "o",
    "steps": 100,
    "sae": {"d_sae": 256, "k": 4},
    "optimizer": {"lr": 1e-3},
    "mesh": {"data": 1, "feature": 2},
    "sweep": {"seed": [1, 2]},
    "wandb": "off",
}


@fuzz
def test_configs_in_yaml(tmp_path, examples):
    path = tmp_path / "c.yaml"

    def put(values):
        path.write_bytes(values if isinstance(values, bytes) else as_json(values))

    def read():
        parse(TrainConfig, ["--config", str(path)], prog="distsae train", examples="", help="")

    texts = st.text(alphabet="ab:-[]{}&*!|>'\"\n #,0x1e.~?", max_size=60).map(str.encode)
    try_all(examples, changed(CONFIG) | damaged(yaml.safe_dump(CONFIG).encode()) | texts, put, read)
