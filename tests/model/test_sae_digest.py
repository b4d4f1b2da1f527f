"""Weights that are not those that were saved are refused, whatever has changed them."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from distsae.checked_files import read_json_object
from distsae.errors import DistsaeError, TornData
from distsae.model import SAE
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import digest_of, read_weights


def _saved(folder):
    generator = torch.Generator().manual_seed(0)
    cfg = SAEConfig(
        d_in=4,
        d_sae=6,
        k=2,
        allocation="mutual_choice",
        hook_name="h",
        hook_layer=None,
        model_name="m",
        context_size=8,
        prepend_bos=True,
    )
    shapes = {"W_enc": (4, 6), "W_dec": (6, 4), "b_enc": (6,), "b_dec": (4,), "threshold": (6,)}
    sae = SAE(cfg, **{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})
    sae.save(folder)
    return sae


def _refusal(folder):
    try:
        SAE.load(folder)
    except TornData as error:
        return str(error)
    return ""


def _change_config(folder, **changes):
    content = read_json_object(folder / "config.json")
    content.update(changes)
    (folder / "config.json").write_text(json.dumps({name: v for name, v in content.items() if v != "left out"}))


def test_every_flipped_bit_of_the_weights_is_found(tmp_path):
    _saved(tmp_path)
    file = tmp_path / "sae.safetensors"
    content = file.read_bytes()
    data = 4 * (24 + 24 + 6 + 4 + 6)
    assert SAE.load(tmp_path).W_enc.shape == (4, 6)
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 8)
        file.write_bytes(flipped)
        refusal = _refusal(tmp_path)
        if position < len(content) - data:  # the header has spaces and letters in names that nothing reads
            assert refusal == "" or str(file) in refusal
        else:
            assert str(file) in refusal, f"a flipped bit at {position} was loaded"


def test_the_digest_covers_names_shapes_and_dtypes():
    x = torch.arange(6, dtype=torch.float32)
    digests = [
        digest_of({"x": x}),
        digest_of({"y": x}),
        digest_of({"x": x.view(2, 3)}),
        digest_of({"x": x.view(torch.int32)}),
    ]
    digests += [digest_of({"x": x, "y": x[:0]}), digest_of({"x": x[:0], "y": x})]
    assert len(set(digests)) == len(digests)
    assert digest_of({"a": x, "b": x}) == digest_of({"b": x, "a": x})
    assert digest_of({"x": x.view(2, 3).t()}) == digest_of({"x": x.view(2, 3).t().contiguous()})


def test_an_sae_from_before_the_digest_loads(tmp_path):
    sae = _saved(tmp_path)
    _change_config(tmp_path, weights_sha256="left out", tokens_seen="left out", max_norm="left out", later=[1])
    torch.testing.assert_close(SAE.load(tmp_path).W_dec, sae.W_dec)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"d_in": "4"}, "config.json .*`d_in` must be a whole number; got '4'"),
        ({"k": 0}, "config.json .*`k` must be at least 1; got 0"),
        ({"hook_name": "left out"}, "config.json .*`hook_name` is missing"),
        ({"hook_layer": 1.5}, "config.json .*`hook_layer` must be a whole number"),
        ({"prepend_bos": 1}, "config.json .*`prepend_bos` must be true or false; got 1"),
        ({"max_norm": "big"}, "config.json .*`max_norm` must be a number"),
        ({"weights_sha256": 7}, "config.json .*`weights_sha256` must be text"),
        ({"d_sae": 10**15}, "sae.safetensors does not go with config.json: `W_enc` must have shape"),
        ({"weights_sha256": "0" * 64}, "sae.safetensors is damaged: the digest"),
    ],
)
def test_fields_of_the_config_are_named(tmp_path, changes, words):
    _saved(tmp_path)
    _change_config(tmp_path, **changes)
    with pytest.raises(TornData, match=words):
        SAE.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("b_dec"), "must have the tensor `b_dec`"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "got 'more' as well"),
        (lambda tensors: tensors.update(b_enc=torch.zeros(6).half()), "weights of one floating-point dtype"),
        (lambda tensors: tensors.update({n: t.int() for n, t in tensors.items()}), "one floating-point dtype"),
    ],
)
def test_other_tensors_than_those_of_an_sae(tmp_path, change, words):
    _saved(tmp_path)
    tensors = load_file(tmp_path / "sae.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "sae.safetensors")
    with pytest.raises(TornData, match=f"sae.safetensors .*{words}"):
        read_weights(tmp_path / "sae.safetensors", None)


def test_what_is_no_safetensors_file(tmp_path):
    _saved(tmp_path)
    file = tmp_path / "sae.safetensors"
    for content in (
        b"",
        b"\xff" * 100,
        b"\x02\0\0\0\0\0\0\0{}",
        b'\x20\0\0\0\0\0\0\0{"W_enc":{"dtype":"F32","shape":[9',
    ):
        file.write_bytes(content)
        with pytest.raises(TornData, match=r"sae\.safetensors"):
            SAE.load(tmp_path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DistsaeError):
        SAE.load(tmp_path)


def test_files_behind_links_load(tmp_path):
    """As in the cache of the Hugging Face Hub."""
    sae = _saved(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for name in ("config.json", "sae.safetensors"):
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / name)
    torch.testing.assert_close(SAE.load(tmp_path / "snapshot").W_dec, sae.W_dec)
