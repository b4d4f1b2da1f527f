"""Every figure against a plain float64 computation that shares nothing with the package but the weights."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr

from distsae.evaluation.measure import measure
from distsae.evaluation.summary import headline

K, EXCLUDED = 6, 1
RULES = ["token_choice", "mutual_choice", "feature_choice"]


def excluded_token(token_ids):
    return int(token_ids[0, 5])


def with_activations(model, token_ids, change):
    """Logits of the model, in float64, with `change` applied to what leaves its first block."""

    def hook(_, __, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = change(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = model.transformer.h[0].register_forward_hook(hook)
    with torch.no_grad():
        logits = model(token_ids).logits
    handle.remove()
    return logits.double().numpy()


def activations_of(model, token_ids):
    seen = []
    with_activations(model, token_ids, lambda hidden: (seen.append(hidden.double().numpy().copy()), hidden)[1])
    return seen[0]


def log_softmax(logits):
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


class Plain:
    """The SAE and the model in plain terms, over whole contexts, `[contexts, length]`."""

    def __init__(self, sae, model, token_ids, mean):
        self.sae, self.model, self.token_ids, self.mean = sae, model, token_ids, mean.double().numpy()
        self.weights = {name: tensor.detach().double().numpy() for name, tensor in sae.state_dict().items()}
        self.x = activations_of(model, token_ids)
        self.norm = np.linalg.norm(self.x, axis=-1)
        self.rows = np.ones(token_ids.shape, bool)
        self.rows[:, :EXCLUDED] = False
        self.rows &= token_ids.numpy() != excluded_token(token_ids)
        self.kept = self.rows & (self.norm <= sae.cfg.max_norm)
        self.clean = log_softmax(with_activations(model, token_ids, lambda hidden: hidden))

    def scores(self, x):
        weights = self.weights
        return np.maximum((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"], 0)

    def feature_acts(self, chosen, rule):
        """`[contexts, length, d_sae]`, zero where nothing is chosen."""
        x = self.x[chosen]
        scores = self.scores(x)
        if rule == "frozen" and "threshold" in self.weights:
            selected = scores > self.weights["threshold"]
        elif self.sae.cfg.allocation == "mutual_choice":
            selected = scores >= np.sort(scores, axis=None)[-K * len(x)]
        elif self.sae.cfg.allocation == "token_choice":
            selected = scores >= np.sort(scores, axis=1)[:, -K, None]
        else:
            exact = self.weights["quota_per_token"] * len(x)
            quota = np.floor(exact).astype(int)
            quota[np.argsort(quota - exact, kind="stable")[: K * len(x) - quota.sum()]] += 1
            order = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0)
            selected = order < quota
        acts = np.zeros((*chosen.shape, scores.shape[1]))
        acts[chosen] = scores * (selected & (scores > 0))
        return acts

    def losses(self, log_p):
        taken = np.take_along_axis(log_p[:, :-1], self.token_ids.numpy()[:, 1:, None], 2)[..., 0]
        return -taken

    def spliced(self, replacement, chosen):
        put, where = torch.tensor(replacement, dtype=torch.float32), torch.tensor(chosen)[..., None]
        return log_softmax(
            with_activations(
                self.model, self.token_ids, lambda hidden: torch.where(where, put.expand_as(hidden), hidden)
            )
        )

    def losses_at(self, x_hat, chosen):
        """Cross-entropies and what they give, over the predictions from the chosen positions."""
        counted = chosen[:, :-1]
        log_q = self.spliced(x_hat, chosen)
        result = {
            "ce_clean": self.losses(self.clean)[counted].mean(),
            "ce_spliced": self.losses(log_q)[counted].mean(),
            "ce_zero": self.losses(self.spliced(np.zeros_like(self.mean), chosen))[counted].mean(),
            "ce_mean": self.losses(self.spliced(self.mean, chosen))[counted].mean(),
            "kl": (np.exp(self.clean) * (self.clean - log_q)).sum(-1)[:, :-1][counted].mean(),
        }
        for name in ("zero", "mean"):
            ablated = result[f"ce_{name}"]
            result[f"loss_recovered_{name}"] = (ablated - result["ce_spliced"]) / (ablated - result["ce_clean"])
        return result

    def figures(self, feature_acts, chosen):
        x_hat = feature_acts @ self.weights["W_dec"] + self.weights["b_dec"]
        x, y = self.x[chosen], x_hat[chosen]
        norm, found = np.linalg.norm(x, axis=1), (feature_acts[chosen] > 0).sum(1)
        unit, unit_hat = x / norm[:, None], y / norm[:, None]
        error = ((x - y) ** 2).sum()
        return {
            "fvu": error / ((x - x.mean(0)) ** 2).sum(),
            "nmse": error / (x**2).sum(),
            "relative_error": (np.linalg.norm(x - y, axis=1) / norm).mean(),
            "cosine": ((x * y).sum(1) / norm / np.linalg.norm(y, axis=1)).mean(),
            "fvu_unit_norm": ((unit - unit_hat) ** 2).sum() / ((unit - unit.mean(0)) ** 2).sum(),
            "l0": found.mean(),
            "features_per_token_std": found.std(),
            "dead_share": ((feature_acts[chosen] > 0).sum(0) == 0).mean(),
            **self.losses_at(x_hat, chosen),
        }

    def difficulty(self):
        """Relative error of every position with its K largest scores."""
        scores = self.scores(self.x)
        kept = np.where(scores >= np.sort(scores, axis=-1)[..., -K, None], scores, 0)
        error = kept @ self.weights["W_dec"] + self.weights["b_dec"] - self.x
        return np.linalg.norm(error, axis=-1) / self.norm

    def correlations(self, feature_acts):
        has_loss = self.kept.copy()
        has_loss[:, -1] = False
        tokens = self.token_ids.numpy()
        found = (feature_acts > 0).sum(-1)[has_loss]
        loss = np.pad(self.losses(self.clean), ((0, 0), (0, 1)))[has_loss]
        norm = self.norm[has_loss].astype(np.float32)  # as it is kept
        frequency = np.array([(tokens == token).sum() for token in tokens[has_loss]])
        position = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)[has_loss]
        difficulty = self.difficulty()[has_loss].astype(np.float32)
        order = {
            "loss": loss, "frequency": frequency, "position": position, "norm": norm, "difficulty": difficulty
        }  # fmt: skip
        result = {name: spearmanr(found, values).statistic for name, values in order.items()}
        # The partial correlation is that of what a line through the ranks of the norm leaves of the other two.
        f, l, n = (rankdata(values) for values in (found, loss, norm))  # noqa: E741
        rest = [ranks - np.polyval(np.polyfit(n, ranks, 1), n) for ranks in (f, l)]
        return result | {"loss_given_norm": pearsonr(*rest).statistic}


@pytest.fixture(scope="module")
def plain_of(tiny_model, token_ids, by_hand):
    x = activations_of(tiny_model, token_ids)
    limit = float(np.quantile(np.linalg.norm(x[:, EXCLUDED:], axis=-1), 0.9))
    mean = torch.tensor(x[:, EXCLUDED:].mean((0, 1)), dtype=torch.float32)

    def make(allocation, max_norm=limit):
        return Plain(by_hand.random(allocation, max_norm=max_norm), tiny_model, token_ids, mean)

    return make


def evaluated(plain, token_ids):
    found = measure(
        plain.sae,
        plain.model,
        "blocks.0.resid_post",
        token_ids,
        mean=torch.tensor(plain.mean, dtype=torch.float32),
        excluded_positions=EXCLUDED,
        excluded_tokens=(excluded_token(token_ids),),
        batch_contexts=3,
        block_rows=10_000,
    )
    return headline(found, seed=0)


def check(result, expected):
    for name, value in expected.items():
        # Loss recovered is made of small differences of losses; what it may be wrong by is counted against 1.
        smallest = 1e-6 if name.startswith("loss_recovered") else 1e-12
        assert result[name] == pytest.approx(value, rel=1e-6, abs=smallest), name


@pytest.mark.parametrize("allocation", RULES)
def test_figures_without_rows_over_the_limit(plain_of, token_ids, allocation):
    plain = plain_of(allocation)
    assert (~plain.rows).sum() > EXCLUDED * len(plain.rows)
    result = evaluated(plain, token_ids)
    assert result["rows_left_out"] == int((plain.rows & ~plain.kept).sum()) > 5
    assert result["left_out_share"] == pytest.approx(result["rows_left_out"] / plain.rows.sum())
    training = plain.feature_acts(plain.kept, "training")
    check(result, plain.figures(training, plain.kept))
    if allocation != "token_choice":  # which gives every token as many, so that nothing correlates
        check(result["features_per_token_correlations"], plain.correlations(training))
    frozen = plain.figures(plain.feature_acts(plain.kept, "frozen"), plain.kept)
    check(result["frozen_rule"], {name: frozen[name] for name in frozen if name in result["frozen_rule"]})
    assert {"relative_error", "cosine", "fvu_unit_norm", "kl"} < set(result["frozen_rule"])


@pytest.mark.parametrize("allocation", RULES)
def test_figures_with_every_row_and_every_position(plain_of, token_ids, allocation):
    plain = plain_of(allocation)
    result = evaluated(plain, token_ids)
    with_them = plain.figures(plain.feature_acts(plain.rows, "frozen"), plain.rows)
    numbers = {name for name in result["with_left_out_rows"] if not name.endswith("_ci95")}
    assert numbers == {
        "fvu", "nmse", "relative_error", "l0", "ce_spliced", "loss_recovered_zero", "loss_recovered_mean",
    }  # fmt: skip
    check(result["with_left_out_rows"], {name: with_them[name] for name in numbers})
    everywhere = np.ones_like(plain.rows)
    acts = plain.feature_acts(everywhere, "frozen")
    expected = plain.losses_at(acts @ plain.weights["W_dec"] + plain.weights["b_dec"], everywhere)
    del expected["kl"]
    check(result["all_positions"], expected)
