"""The NMF solver's base rate under noise of a known size: `lrpilot.nmf.noisy_anchor`, judged.

Run `.venv/bin/python benchmarks/nmf_noise.py`: about a minute on one core. Cosine annealing and
inverse time decay of the same mean rate, inside the bound, at 15 anchors over 3.5 decades, on 8
matrices of each of 60 random settings (sizes, ranks, entries, horizons, minibatches; noise on each
gradient from 0.03 to 3 times the first gradient). Prints by how much more is left than under cosine
at the best of the 15 anchors of a setting (mean and largest ln), for the fixed anchor of 10, for
the rule, and for the rule times a factor.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from lrpilot.learning.nmf_runs import log_uniform, random_matrices, random_setting, runs_of
from lrpilot.learning.runs import log_measure
from lrpilot.nmf import noisy_anchor
from lrpilot.schedules.learned.policy import BASES

SETTINGS = 60
DECAYS = ("cosine", "inverse-linear")
MATRICES = 8
ANCHORS = 10 * 10 ** np.linspace(-3, 0.5, 15)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def curve(number, decay):
    """The mean ln of what is left at each of the anchors, and what the rule says."""
    rng = np.random.default_rng([number, 77])
    setting = random_setting(rng)
    noise = setting.noise or log_uniform(rng, 0.03, 3)
    rule = noisy_anchor(setting.rank, noise, setting.total_steps)
    V = random_matrices(setting, MATRICES, rng)
    runs = runs_of(replace(setting, noise=noise), V, rng, copies=len(ANCHORS))
    scales = np.repeat(ANCHORS / rule, MATRICES)
    for step in range(setting.total_steps):
        runs.step(scales * BASES[decay](step / setting.total_steps))
    return log_measure(runs).reshape(len(ANCHORS), MATRICES).mean(axis=1), rule


def main():
    torch.set_num_threads(1)
    numbers = track(range(SETTINGS), "settings", console=Console(stderr=True))
    found = [[curve(number, decay) for decay in DECAYS] for number in numbers]
    print("| anchor | cosine: mean, largest | inverse time decay: mean, largest |")
    print("|---|---|---|")
    names = {f"rule × {factor:g}": factor for factor in FACTORS}
    for name in ("10, always", *names):
        more = []
        for setting in found:
            least, rule = setting[0][0].min(), setting[0][1]
            anchor = math.log(10 if name not in names else names[name] * rule)
            more.append([np.interp(anchor, np.log(ANCHORS), left) - least for left, _ in setting])
        columns = zip(*more, strict=True)
        cells = " | ".join(f"{np.mean(each):.3f}, {max(each):.2f}" for each in columns)
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
