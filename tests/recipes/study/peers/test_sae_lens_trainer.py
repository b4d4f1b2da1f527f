import pytest

from tests.recipes.study.peers.own_trainers import check_trainer, job

pytest.importorskip("sae_lens")


@pytest.mark.parametrize("variant", ["batchtopk", "matryoshka"])
def test_it_trains_with_its_own_code(variant):
    from distsae.recipes.study.peers.sae_lens_trainer import build

    check_trainer(build(job(variant)))
