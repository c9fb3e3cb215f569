"""How far the certified estimate of the largest eigenvalue lies above it, on wild factors.

4,000 factors with rows and columns spread over decades, many of them mostly zeros; prints the worst
quotient after so many iterations. A minute on one core.
"""

import numpy as np

from lrpilot.nmf.bounds import top_eigenvalue

ITERATIONS = (3, 5, 8, 20, 50)


def wild(rng):
    rank, n = rng.integers(1, 60), rng.integers(1, 100)
    H = rng.gamma(rng.choice([0.02, 0.1, 0.5, 2]), size=(rank, n))
    H *= 10.0 ** rng.normal(0, rng.choice([0, 1, 3]), size=(rank, 1))
    H *= 10.0 ** rng.normal(0, rng.choice([0, 1]), size=(1, n))
    return H * (rng.random((rank, n)) < rng.choice([0.05, 0.2, 0.5, 1.0, 1.0, 1.0]))


def main():
    rng = np.random.default_rng(0)
    worst = dict.fromkeys(ITERATIONS, 1.0)
    least = dict.fromkeys(ITERATIONS, np.inf)
    for _ in range(4000):
        H = wild(rng)
        A = H @ H.T
        largest = np.linalg.eigvalsh(A)[-1]
        if largest <= 0:
            continue
        for count in ITERATIONS:
            quotient = top_eigenvalue(A, iterations=count) / largest
            worst[count] = max(worst[count], quotient)
            least[count] = min(least[count], quotient)
    print("| iterations | highest quotient | lowest quotient |\n|---|---|---|")
    for count in ITERATIONS:
        print(f"| {count} | {worst[count]:.4f} | {least[count]:.6f} |")


if __name__ == "__main__":
    main()
