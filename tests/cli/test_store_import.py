import numpy as np
import pytest

from distsae.cli.main import main
from distsae.cli.store_import import StoreImportConfig, import_store
from distsae.errors import WrongInput
from distsae.store import OwnStoreSettings, Store


def test_every_setting_reaches_the_store(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((40, 6, 3)))
    np.save(tmp_path / "d.npy", np.arange(40) // 4)
    config = StoreImportConfig(
        activations=(str(tmp_path / "a.npy"),),
        out=str(tmp_path / "s"),
        document_ids=str(tmp_path / "d.npy"),
        hook="here",
        dtype="bf16",
        heldout_share=0.25,
        excluded_positions=2,
        unit_rows=60,
        chunk_rows=20,
        seed=3,
        model="some model",
        prepend_bos=True,
    )
    assert import_store(config) == 0
    store = Store.open(str(tmp_path / "s"))
    found = store.attributes
    assert {name: getattr(found, name) for name in ("hooks", "dtype", "heldout_by", "heldout_share", "model")} == {
        "hooks": ("here",),
        "dtype": "bf16",
        "heldout_by": "documents",
        "heldout_share": 0.25,
        "model": "some model",
    }
    assert (found.excluded_positions, found.unit_rows, found.chunk_rows, found.seed) == (2, 60, 20, 3)
    assert found.prepend_bos
    assert (store.rows, store.heldout_rows) == (32 * 4, 8 * 4)
    assert "128 rows and 32 held-out ones of width 3 at here" in capsys.readouterr().out


def test_settings_are_listed_again_with_their_defaults():
    """The help of a command comes from its own docstring, so the fields are there twice."""
    config = StoreImportConfig(activations=("a",), out="s")
    assert {name: getattr(config, name) for name in vars(OwnStoreSettings())} == vars(OwnStoreSettings())
    assert StoreImportConfig.__doc__ is not None
    assert all(f"        {name}: " in StoreImportConfig.__doc__ for name in vars(config))


def test_one_row_is_too_few(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.ones((1, 3)))
    with pytest.raises(WrongInput, match="at least 2 rows or contexts; got 1"):
        import_store(StoreImportConfig(activations=(str(tmp_path / "a.npy"),), out=str(tmp_path / "s")))
    assert main(["store", "import", str(tmp_path / "a.npy"), "--out", str(tmp_path / "s")]) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npy"]
