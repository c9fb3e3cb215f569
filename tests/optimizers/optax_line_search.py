"""Optax's backtracking line search on Rosenbrock's function, as JSON: its own process, for JAX.

JAX warns whenever a process that has imported it forks, and computes in float64 only if told so
before; neither is for the process of the tests. So nothing is imported until this file is run:
pytest imports it when it looks for doctests.
"""

import json
import sys


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def searches(cases):
    """Rate and parameters after each step, for each case."""
    import jax
    import optax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)

    def solver_of(increase_factor, lr, c, beta):
        return optax.chain(
            optax.sgd(1.0),
            optax.scale_by_backtracking_linesearch(
                max_backtracking_steps=100,
                slope_rtol=c,
                decrease_factor=beta,
                increase_factor=increase_factor,
                max_learning_rate=lr,
            ),
        )

    @jax.jit  # the settings are traced, so that all cases are one compilation
    def step(w, state, settings):
        solver = solver_of(**settings)
        value, grad = jax.value_and_grad(rosenbrock)(w)
        updates, state = solver.update(grad, state, w, value=value, grad=grad, value_fn=rosenbrock)
        return optax.apply_updates(w, updates), state

    for case in cases:
        settings = {name: value for name, value in case.items() if name != "steps"}
        w = jax.numpy.array([-1.2, 1.0])
        state, rows = solver_of(**settings).init(w), []
        for _ in range(case["steps"]):
            w, state = step(w, state, settings)
            rows.append([float(optax.tree.get(state, "learning_rate")), *map(float, w)])
        yield rows


if __name__ == "__main__":
    json.dump(list(searches(json.load(sys.stdin))), sys.stdout)
