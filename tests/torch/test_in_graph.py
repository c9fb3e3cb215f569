"""`InGraphGreedyLR`: the rule on tensors, compiled, without a read on the host."""

import json

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

from contracts import run
from lrpilot.schedules.greedy import Greedy
from lrpilot.schedules.greedy.arrays import packed
from lrpilot.torch import InGraphGreedyLR
from scheduled import parameters

EAGER = Greedy(factor=0.5, window=2, evidence=2.0, min_scale=0.01, max_scale=100.0)


def losses(steps: int, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    levels = np.cumsum(np.repeat(rng.normal(size=-(-steps // 40)) / 10, 40)[:steps])
    noisy = levels + 0.05 * rng.normal(size=steps)
    noisy[::29] = np.nan
    return noisy.tolist()


def sgd(*rates: float) -> optim.SGD:
    return optim.SGD([{"params": parameters(), "lr": torch.tensor(lr)} for lr in rates], lr=0.1)


def rates(optimizer) -> list[float]:
    return [group["lr"].item() for group in optimizer.param_groups]


class NoHostReads(TorchDispatchMode):
    """Raises where a value of a tensor would have to come to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.is_nonzero.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.equal.default,
        ), f"{func} reads a value on the host"
        return func(*args, **(kwargs or {}))


def test_its_rates_are_those_of_the_rule_on_the_host():
    optimizer = sgd(0.1, 5e-5)
    scheduler = InGraphGreedyLR(optimizer, EAGER)
    stream = losses(240)
    expected = run(EAGER, stream)[1:]
    for loss, state in zip(stream, expected, strict=True):
        scheduler.step(torch.tensor(loss, dtype=torch.float64))
        # Torch rounds some functions otherwise than the C library, by processor.
        assert packed(scheduler.state) == pytest.approx(packed(state), rel=1e-9, nan_ok=True)
        assert scheduler.state.reason == state.reason
        assert rates(optimizer) == pytest.approx([0.1 * state.scale, 5e-5 * state.scale], rel=1e-6)
    assert len({state.scale for state in expected}) > 3


def test_a_step_reads_nothing_on_the_host():
    scheduler = InGraphGreedyLR(sgd(0.1), EAGER)
    with NoHostReads():
        for loss in losses(50):
            scheduler.step(torch.tensor(loss))
        with pytest.raises(AssertionError, match="reads a value"):
            float(scheduler.optimizer.param_groups[0]["lr"])


def test_compiled_as_one_graph_it_decides_the_same():
    optimizer, twin = sgd(0.1), sgd(0.1)
    scheduler = InGraphGreedyLR(optimizer, EAGER)
    reference = InGraphGreedyLR(twin, EAGER)
    compiled = torch.compile(scheduler.step, backend="aot_eager", fullgraph=True)
    seen = set()
    for loss in losses(150):
        compiled(torch.tensor(loss))
        reference.step(torch.tensor(loss))
        seen.add(rates(optimizer)[0])
        assert rates(optimizer) == rates(twin)
        assert scheduler.state == reference.state
    assert len(seen) > 2


# The compiler warns on its own account.
@pytest.mark.filterwarnings("ignore")
def test_a_training_step_compiles_together_with_the_scheduler():
    def train(compile_it: bool) -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(4))
        optimizer = optim.SGD([weight], lr=torch.tensor(0.02))
        scheduler = InGraphGreedyLR(optimizer, EAGER)

        def after_backward(loss):
            optimizer.step()
            scheduler.step(loss)

        if compile_it:
            after_backward = torch.compile(after_backward, backend="aot_eager")
        series = []
        for step in range(60):
            noise = torch.randn(4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            loss = (weight - noise / 10).square().sum()
            loss.backward()
            after_backward(loss)
            series += rates(optimizer)
        return series, weight.detach()

    eager, compiled = train(False), train(True)
    assert eager[0] == compiled[0]
    assert torch.allclose(eager[1], compiled[1], rtol=1e-5)  # the compiler rounds otherwise
    assert len(set(eager[0])) > 1


def test_a_tensor_rate_is_written_in_place_also_where_groups_share_it():
    rate = torch.tensor(0.5)
    optimizer = optim.SGD([{"params": parameters()}, {"params": parameters()}], lr=rate)
    scheduler = InGraphGreedyLR(optimizer, Greedy(factor=0.5, window=1))
    for loss in range(8, 0, -1):
        scheduler.step(torch.tensor(float(loss)))
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert rate.item() == 1.0


def test_it_resumes_exactly_from_strict_json():
    stream = losses(240)
    whole = InGraphGreedyLR(sgd(0.1), EAGER)
    for loss in stream:
        whole.step(torch.tensor(loss))
    first = InGraphGreedyLR(sgd(0.1), EAGER)
    for loss in stream[:97]:
        first.step(torch.tensor(loss))
    saved = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    optimizer = sgd(0.1)
    second = InGraphGreedyLR(optimizer, EAGER)
    second.load_state_dict(saved)
    assert rates(optimizer) == rates(first.optimizer)
    for loss in stream[97:]:
        second.step(torch.tensor(loss))
    assert second.state_dict() == whole.state_dict()


def test_a_foreign_state_and_other_settings_are_said():
    scheduler = InGraphGreedyLR(sgd(0.1), EAGER)
    with pytest.raises(ValueError, match="not a version 1 state"):
        scheduler.load_state_dict({})
    with pytest.warns(UserWarning, match="saved under other settings"):
        scheduler.load_state_dict(InGraphGreedyLR(sgd(0.1)).state_dict())


def test_a_float_rate_and_another_rule_are_refused_with_the_cure():
    with pytest.raises(TypeError, match=r"lr=torch.tensor\(0.1\)"):
        InGraphGreedyLR(optim.SGD(parameters(), lr=0.1))
    with pytest.raises(TypeError, match="only the default rule has a twin"):
        InGraphGreedyLR(sgd(0.1), Greedy(test="threshold"))


def test_the_graph_of_the_loss_is_not_kept():
    scheduler = InGraphGreedyLR(sgd(0.1))
    weight = torch.ones(3, requires_grad=True)
    scheduler.step((weight * 2).sum())
    assert not scheduler._state.requires_grad


def test_a_loss_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"loss must be a tensor, as in a graph, got 1\.0"):
        InGraphGreedyLR(sgd(0.1)).step(1.0)
