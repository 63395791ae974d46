"""Find rows of a table that share one shift: the common pattern, where there are no grids."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mimic3tf.defences.common_pattern.whitened import Part, Whitened
from mimic3tf.defences.common_pattern import finding
Floats = NDArray[np.float64]
CFG = dict(prior="cols", group=40, shrink=0.02, nugget=0.01, distinct=10, top=.9, rounds=1, floor=.003, white="chol")


@dataclass(frozen=True, repr=False)
class SharedPart(Part):
    """design [k, P] is shared by all rows."""

    def moved(self, coordinates):
        own = (self.design @ coordinates[: self.design.shape[1]].astype(np.float32))
        return (self.residuals.reshape(-1, len(own)) - own).ravel()

    def total(self, rows):
        return self.design.T @ rows.reshape(-1, len(self.design)).sum(axis=0)

    def totals(self, rows):
        return rows.reshape(-1, len(self.design)) @ self.design

    def information(self, slopes):
        return slopes.sum() * (self.design.T @ self.design)

    def take(self, stays):
        k = len(self.design)
        return SharedPart(self.counts[stays], self.residuals.reshape(-1, k)[stays].ravel(), self.design)


class Margin:
    def __init__(self, cells):
        self.cells = s = np.sort(cells)
        n = len(s)
        self.low, self.high = (float(ndtri((np.searchsorted(s, v, "left") + np.searchsorted(s, v, "right")) / 2 / n)) for v in (s[0], s[-1]))
        overall = np.ptp(np.percentile(s, (5, 95))) / 3.29 or s.std()
        q1, q99 = np.percentile(s, (1, 99))
        z = self(np.array([q1, q99]), True)
        self.slopes = [(b - a) / d if d > 0 and b > a else 1 / overall for a, b, d in ((self.low, z[0], q1 - s[0]), (z[1], self.high, s[-1] - q99))]

    def __call__(self, x, inside=False):
        s = self.cells
        u = (np.searchsorted(s, x, "left") + np.searchsorted(s, x, "right")) / 2 / len(s)
        if inside:
            return ndtri(u)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(x < s[0], self.low + (x - s[0]) * self.slopes[0], np.where(x > s[-1], self.high + (x - s[-1]) * self.slopes[1], ndtri(u)))
        return np.clip(z, -8, 8)


def prepare(x, y, tx, ty, suspected, seed):
    x = np.asarray(x, float); tx = np.asarray(tx, float)
    sound = np.concatenate([x[y != suspected], tx[ty != suspected]])
    used, margins = [], []
    for c in range(sound.shape[1]):
        cells = sound[:, c][~np.isnan(sound[:, c])]
        if len(cells) < 200: continue
        v, n = np.unique(cells, return_counts=True)
        if len(v) < CFG["distinct"] or n.max() > CFG["top"] * len(cells): continue
        used.append(c); margins.append(Margin(cells))
    def z(a): return np.stack([m(a[:, c]) for c, m in zip(used, margins)], 1)
    zs = z(sound); miss = np.isnan(zs)
    mean = np.nanmean(zs, 0)
    zs = np.where(miss, 0, zs - mean); D = len(used)
    w = np.ones(len(zs))
    for step in range(CFG["rounds"] + 1):
        r = zs * np.sqrt(w)[:, None]; m = (~miss) * np.sqrt(w)[:, None]
        cov = (r.T @ r) / np.maximum(m.T @ m, 1)
        d = np.diag(cov).copy(); cov *= 1 - CFG["shrink"]; cov[np.diag_indices(D)] = d
        lam, V = np.linalg.eigh(cov)
        lam = np.maximum(lam, CFG["floor"])+ CFG["nugget"]
        cov = (V * lam) @ V.T
        L = np.linalg.cholesky(cov)
        if step < CFG["rounds"]:
            e = np.linalg.solve(L, zs.T).T; q = (e**2).sum(1); k = (~miss).sum(1)
            w = np.minimum((4 + k) / (4 + q), 4)
    if CFG["white"] == "pca": W = (V / np.sqrt(lam)).T[::-1]
    else: W = np.linalg.inv(L)
    if CFG["prior"] == "cols": basis = np.diag(np.sqrt(np.diag(cov)))
    elif CFG["prior"] == "cov": basis = V * np.sqrt(lam)
    elif CFG["prior"] == "mix": basis = np.linalg.cholesky((cov + np.diag(np.diag(cov))) / 2)
    design = (W @ basis).astype(np.float32)
    def white(a):
        a = z(a) - mean; a = np.where(np.isnan(a), 0, a)  # TODO
        e = (a @ W.T).astype(np.float32)
        edges = list(range(0, D, CFG["group"]))
        return Whitened(len(a), tuple(SharedPart(np.full(len(a), len(e[0, s:s + CFG["group"]])), np.ascontiguousarray(e[:, s:s + CFG["group"]]).ravel(), design[s:s + CFG["group"]]) for s in edges))
    return white, used, margins, basis

def find(x, y, tx, ty, suspected, seed):
    white, used, margins, basis = prepare(x, y, tx, ty, suspected, seed)
    random = np.random.default_rng(seed)
    ref = white(tx[ty != suspected][:2000])
    fits = finding.cross_fit(white(x[y == suspected]), white(tx[ty == suspected]), ref, 1, random)
    return fits, used
