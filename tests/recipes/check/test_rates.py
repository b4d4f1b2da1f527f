"""Rates are positive, and the store that is read is a real one."""

import torch

from distsae.recipes.check import CheckConfig
from distsae.recipes.check.rates import HOOK, make_store, rates_found, reading_found

CONFIG = CheckConfig(d_in=16, batch_tokens=256)


def test_rates_of_this_machine():
    rates, found = rates_found(CONFIG, torch.device("cpu"))
    assert min(rates.product, rates.exact, rates.copy) > 0
    assert [finding.name for finding in found] == ["bf16 product", "fp32 product", "copy within memory"]
    assert found[2].figures == {"copy_bytes_per_s": rates.copy}


def test_batches_of_the_store_are_read(tmp_path):
    store = make_store(CONFIG, tmp_path / "store")
    assert store.d_in(HOOK) == 16
    found = reading_found(CONFIG, store, tmp_path / "store", torch.device("cpu"))
    assert found.state == "ok"
    assert found.figures["read_bytes_per_s"] == 32 * found.figures["rows_per_s"] > 0


def test_the_store_is_the_same_each_time(tmp_path):
    one, other = (make_store(CONFIG, tmp_path / name) for name in ("one", "other"))
    assert one.statistics(HOOK).variance == other.statistics(HOOK).variance
