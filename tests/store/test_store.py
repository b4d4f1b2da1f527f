import math

import pytest
import torch

from distsae.errors import TornData, WrongInput
from distsae.store import Chunk, Store, begin_store, row_norms
from distsae.store.buffers import page_aligned
from distsae.store.verify import verify_store
from tests.store.synthetic import activations, as_older, attributes, plant_outliers, write_store, write_unit


@pytest.fixture(scope="module", params=["fp16", "bf16", "fp32"])
def store(request, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / request.param, attributes(dtype=request.param))


def test_every_row_once_with_its_own_activation(store):
    attrs, seen = store.attributes, set()
    for split, rows in (("train", store.rows), ("heldout", store.heldout_rows)):
        chunks = store.chunks(split)
        assert sum(chunk.rows for chunk in chunks) == rows
        for chunk in chunks:
            ids = store.read_ids(chunk.unit)
            part = slice(chunk.index * attrs.chunk_rows, chunk.index * attrs.chunk_rows + chunk.rows)
            context_id, position = ids.context_id[part], ids.position[part]
            for hook in attrs.hooks:
                acts = store.read_chunk(hook, chunk)
                assert acts.dtype == {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[attrs.dtype]
                expected = activations(hook, attrs.d_in[hook], context_id, position)
                torch.testing.assert_close(acts.float(), expected, rtol=0, atol=0)
            seen.update(zip(context_id.tolist(), position.tolist(), strict=True))
    assert seen == {(context, position) for context in range(40) for position in range(1, 9)}
    assert len(seen) == store.rows + store.heldout_rows


def test_chunks_are_in_unit_order(store):
    assert store.chunks()[:4] == (Chunk(0, 0, 32), Chunk(0, 1, 32), Chunk(0, 2, 32), Chunk(1, 0, 32))
    assert list(store.chunks()) == sorted(store.chunks())
    assert store.chunks("heldout") == (Chunk(3, 0, 32),)
    assert [(unit.index, unit.split) for unit in store.units] == [
        (0, "train"),
        (1, "train"),
        (2, "train"),
        (3, "heldout"),
    ]


def test_partly_filled_chunks(tmp_path):
    store = write_store(tmp_path / "s", attributes(chunk_rows=40))
    assert [chunk.rows for chunk in store.chunks()] == [40, 40, 16] * 3
    assert store.read_chunk("c", store.chunks()[2]).shape == (16, 4)
    assert not any(store.read_chunk("c", chunk).isnan().any() for chunk in store.chunks())


def test_statistics_are_of_the_train_rows(store):
    for hook in store.attributes.hooks:
        x = torch.cat([store.read_chunk(hook, chunk) for chunk in store.chunks()]).double()
        statistics = store.statistics(hook)
        assert statistics.rows == store.rows == len(x)
        torch.testing.assert_close(statistics.mean, x.mean(0).float())
        assert statistics.mean_norm == pytest.approx(x.norm(dim=1).mean().item(), rel=1e-9)
        assert statistics.variance == pytest.approx((x - x.mean(0)).square().sum(1).mean().item(), rel=1e-9)


def test_statistics_without_rows_of_excluded_tokens(tmp_path):
    attrs = attributes(excluded_tokens=(3, 11))

    def as_zeros(data):
        excluded = torch.isin(data.rows["token_id"], torch.tensor(attrs.excluded_tokens))
        for acts in data.acts.values():
            acts[excluded] = 0

    store = write_store(tmp_path / "s", attrs, as_zeros)
    assert verify_store(store) == []
    for hook in attrs.hooks:
        x = torch.cat([store.read_chunk(hook, chunk) for chunk in store.chunks()]).double()
        kept = x[(x != 0).any(1)]
        assert len(kept) < len(x) == store.rows
        for statistics in (store.statistics(hook), store.norms(hook).statistics(math.inf)):
            assert statistics.rows == len(kept)
            torch.testing.assert_close(statistics.mean, kept.mean(0).float())
            assert statistics.mean_norm == pytest.approx(kept.norm(dim=1).mean().item(), rel=1e-9)
            assert statistics.variance == pytest.approx((kept - kept.mean(0)).square().sum(1).mean().item(), rel=1e-9)


def test_statistics_without_the_largest_rows(tmp_path):
    store = write_store(tmp_path / "s", change=plant_outliers)
    for hook in store.attributes.hooks:
        x = torch.cat([store.read_chunk(hook, chunk) for chunk in store.chunks()]).double()
        limit = store.norms(hook).limit(10)
        kept = x[row_norms(x) <= limit]
        assert store.norms(hook).rows_over(limit) == len(x) - len(kept) > 0
        assert {position for position, _ in store.norms(hook).positions_over(limit)} == {1}
        statistics = store.statistics(hook, limit)
        assert statistics.rows == len(kept)
        torch.testing.assert_close(statistics.mean, kept.mean(0).float())
        assert statistics.mean_norm == pytest.approx(kept.norm(dim=1).mean().item(), rel=1e-12)
        assert statistics.variance == pytest.approx((kept - kept.mean(0)).square().sum(1).mean().item(), rel=1e-12)
        assert statistics.variance < store.statistics(hook).variance / 100


def test_statistics_are_the_sealed_ones_where_no_row_is_left_out(store):
    for hook in store.attributes.hooks:
        sealed = store.statistics(hook)
        found = store.statistics(hook, store.norms(hook).limit(10))
        assert (found.rows, found.mean_norm, found.variance) == (sealed.rows, sealed.mean_norm, sealed.variance)
        assert torch.equal(found.mean, sealed.mean)


def test_a_store_from_before_there_were_norms(tmp_path):
    store = write_store(tmp_path / "s", change=plant_outliers)
    older = as_older(store)
    assert older.norms("c") is None
    assert older.statistics("c").variance == store.statistics("c").variance
    with pytest.raises(WrongInput, match=r"must have histograms of norms, .*; run `distsae store measure .*/s` once"):
        older.statistics("c", 100.0)
    with pytest.raises(WrongInput, match="must be in the store"):
        older.norms("x")


def test_heldout_contexts_are_whole(store):
    contexts = store.heldout_contexts()
    assert contexts.shape == (4, 9)
    assert contexts.dtype == torch.int64
    assert (contexts[:, 0] == 0).all()
    ids = store.read_ids(3)
    tokens = {(int(c), int(p)): int(t) for c, p, t in zip(ids.context_id, ids.position, ids.token_id, strict=True)}
    from distsae.store import unit_contexts

    for row, context in enumerate(unit_contexts(store.attributes)[3]):
        assert [tokens[int(context), position] for position in range(1, 9)] == contexts[row, 1:].tolist()


def test_unknown_hook_lists_those_that_exist(store):
    for ask in (store.d_in, store.require_hook, store.statistics):
        with pytest.raises(WrongInput, match=r"got a\.b, c"):
            ask("nope")


def test_the_error_for_a_missing_or_unsealed_store_tells_what_to_do(tmp_path):
    with pytest.raises(WrongInput, match="make one with"):
        Store.open(tmp_path / "nothing")
    attrs = attributes()
    begin_store(tmp_path / "begun", attrs)
    write_unit(tmp_path / "begun", attrs, 1)
    with pytest.raises(WrongInput, match=r"got 1 of 4 units; run the same `distsae produce` command again"):
        Store.open(tmp_path / "begun")


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "swap"])
def test_damage_is_named(tmp_path, damage):
    store = write_store(tmp_path / "s")
    chunk = store.chunks()[1]
    folder = store.path / "data" / store.units[0].attempt
    file, other = (folder / store.chunk_file("a.b", Chunk(0, index, 32)) for index in (1, 2))
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[100] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(content[:-1])
    elif damage == "swap":  # a whole chunk with a valid crc of its own, under the wrong name
        file.write_bytes(other.read_bytes())
    else:
        file.unlink()
    with pytest.raises(TornData, match=str(file)):
        store.read_chunk("a.b", chunk)
    assert len(store.read_chunk("c", chunk)) == 32


def test_damaged_and_missing_records_are_named(tmp_path):
    store = write_store(tmp_path / "s")
    commit = store.path / "commits" / "unit-000002.json"
    content = commit.read_text()
    commit.write_text(content.replace('"rows": 96', '"rows": 95'))
    with pytest.raises(TornData, match=r"unit-000002\.json is damaged"):
        Store.open(store.path)
    commit.unlink()
    with pytest.raises(TornData, match=r"unit-000002\.json is missing"):
        Store.open(store.path)


def test_rows_into_a_buffer(store):
    attrs, chunk = store.attributes, store.chunks()[4]
    for hook in attrs.hooks:
        buffer = page_aligned(store.buffer_bytes(hook))
        for _ in range(2):  # read whole and checked first, in part afterwards
            rows = store.read_rows(hook, chunk, 3, 30, buffer)
            assert rows.untyped_storage().data_ptr() - buffer.ctypes.data in range(4096 + len(buffer))
            assert torch.equal(rows, store.read_chunk(hook, chunk)[3:30])
        store = Store.open(store.path)
        assert torch.equal(store.read_rows(hook, chunk, 0, 32, buffer), store.read_chunk(hook, chunk))
