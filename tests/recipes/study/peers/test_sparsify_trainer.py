import pytest

from tests.recipes.study.peers.own_trainers import check_trainer, job

pytest.importorskip("sparsify")


def test_it_trains_with_its_own_code():
    from distsae.recipes.study.peers.sparsify_trainer import build

    check_trainer(build(job()))
