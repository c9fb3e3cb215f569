"""How much of known factors StochasticNMF, NMF and MiniBatchNMF find.

The matrix is that of the task `nmf-known`: 600 samples of 60 features, rank 8, sparse factors under
a little noise. `recovery` is the mean cosine of each known part with the part found that matches
it: 1 is all of them, and samples drawn at random reach 0.7. One thread, ten seeds; every model with
its defaults but for the passes and a random start. Prints the table of docs/nmf.md: the mean over
seeds and, in brackets, the worst seed; a quarter of a minute.
"""

import warnings

import numpy as np
import torch
from sklearn.decomposition import NMF, MiniBatchNMF
from threadpoolctl import threadpool_limits

from lrpilot.nmf import StochasticNMF
from lrpilot.tasks.known_factors import RANK, known_factors, recovery

SEEDS = range(10)
PASSES = (5, 10, 20, 50, 200)
SKLEARN = {"init": "random", "tol": 0}  # takes all of its passes

MODELS = {
    "NMF, cd": lambda passes, seed: NMF(RANK, max_iter=passes, random_state=seed, **SKLEARN),
    "NMF, mu": lambda passes, seed: NMF(
        RANK, solver="mu", max_iter=passes, random_state=seed, **SKLEARN
    ),
    "MiniBatchNMF": lambda passes, seed: MiniBatchNMF(
        RANK, max_iter=passes, max_no_improvement=None, random_state=seed, **SKLEARN
    ),
    "StochasticNMF": lambda passes, seed: StochasticNMF(RANK, max_iter=passes, random_state=seed),
}


def found(model, X):
    return recovery(torch.from_numpy(model.fit(X).components_))


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # that so few passes have not converged
    X = known_factors().V["train"].numpy()
    print(f"| model | {' | '.join(f'{count} passes' for count in PASSES)} |")
    print("|---" * (len(PASSES) + 1) + "|")
    with threadpool_limits(1):
        for name, make in MODELS.items():
            cells = []
            for passes in PASSES:
                of_seeds = [found(make(passes, seed), X) for seed in SEEDS]
                cells.append(f"{np.mean(of_seeds):.3f} ({min(of_seeds):.3f})")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
