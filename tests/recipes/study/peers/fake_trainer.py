"""A peer that needs nothing but torch: BatchTopK by autograd on one page, run by `worker.py` as a peer's trainer is.

Options: `fail_at` raises at a step, `nan_at` gives an error that is not finite, `slow` waits seconds in each step.
"""

from __future__ import annotations

import time

import torch


class _Fake:
    def __init__(self, job):
        self.job, self.done = job, 0
        rows = torch.randn(job["d_sae"], job["d_in"])
        rows /= rows.norm(dim=1, keepdim=True)
        self.W_enc, self.W_dec = rows.T.clone().requires_grad_(), rows.clone().requires_grad_()
        self.b_enc, self.b_dec = torch.zeros(job["d_sae"], requires_grad=True), torch.zeros(job["d_in"])
        rate = job["lr"] if job["lr"] is not None else 1e-3
        self.adam = torch.optim.Adam([self.W_enc, self.W_dec, self.b_enc], lr=rate)
        self.sums, self.rows = torch.zeros(()), 0
        self.facts = {"lr": rate, "variant": job["variant"]}
        print("a library may print what it likes")

    def step(self, x):
        options = self.job["options"]
        self.done += 1
        time.sleep(options.get("slow", 0))
        if self.done == options.get("fail_at"):
            raise ValueError("out of luck")
        if self.done == options.get("nan_at"):
            return float("nan")
        self.sums, self.rows = self.sums + x.double().sum(), self.rows + len(x)
        if self.done == 1:
            self.b_dec = x.mean(0)
        scores = ((x - self.b_dec) @ self.W_enc + self.b_enc).relu()
        best = scores.flatten().topk(self.job["k"] * len(x))
        acts = torch.zeros_like(scores).flatten().scatter(0, best.indices, best.values).reshape(scores.shape)
        error = (acts @ self.W_dec + self.b_dec - x).square().sum(1).mean()
        error.backward()
        self.adam.step()
        self.adam.zero_grad()
        with torch.no_grad():
            self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)
        return float(error.detach())

    def weights(self):
        self.facts |= {"sum": float(self.sums), "rows": self.rows}
        weights = {name: getattr(self, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        return weights | {"threshold": torch.tensor(self.job["options"].get("threshold", -1.0))}


def build(job):
    return _Fake(job)
