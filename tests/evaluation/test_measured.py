import torch

from distsae.evaluation.measure import measure
from distsae.evaluation.measured import Measured, TokenRows


def test_joined_parts_are_the_whole(by_hand, tiny_model, token_ids):
    def measured(ids, sae):
        return measure(
            sae,
            tiny_model,
            "blocks.0.resid_post",
            ids,
            mean=torch.zeros(32),
            excluded_positions=1,
            batch_contexts=2,
            block_rows=31,
        )

    for allocation in ("token_choice", "mutual_choice"):
        sae = by_hand.random(allocation)
        parts = [measured(ids, sae) for ids in (token_ids[:2], token_ids[2:4])]
        whole = measured(token_ids[:4], sae)
        joined = Measured.joined(parts)
        assert joined.blocks == whole.blocks == 2
        assert (joined.rules["training"] is joined.rules["frozen"]) == (allocation == "token_choice")
        assert torch.equal(joined.rules["training"].counts, whole.rules["training"].counts)
        assert torch.equal(joined.rows.token_id, whole.rows.token_id)
        assert len(joined.rows) == len(TokenRows.joined([whole.rows])) == 60
        for name, values in whole.with_left_out.items():
            assert torch.equal(joined.with_left_out[name], values)
