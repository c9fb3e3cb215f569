import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim, zeros

from contracts import modes, run, scales, streams
from lrpilot.schedules import Plateau

BASE_LR = 0.5  # a power of two: torch's product of rates is then ours of scales, bit for bit


def torch_scales(losses, min_scale=1e-4, base_lr=BASE_LR, **kwargs) -> list[float]:
    optimizer = optim.SGD([nn.Parameter(zeros(1))], lr=base_lr)
    counterpart = optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, threshold_mode="rel", eps=0, min_lr=min_scale * base_lr, **kwargs
    )
    rates = [base_lr]
    for loss in losses:
        counterpart.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return [rate / base_lr for rate in rates]


@settings(max_examples=200)
@given(
    # Losses and thresholds on a binary grid: margins are exact, so that ties are ties in both.
    losses=streams(st.integers(1, 4096).map(lambda n: n / 64)),
    factor=st.floats(0.01, 0.99),
    patience=st.integers(0, 4),
    threshold=st.sampled_from((0.0, 1 / 1024, 1 / 8, 1 / 2)),
    cooldown=st.integers(0, 4),
    min_scale=st.floats(1e-6, 1.0),
    mode=modes,
)
def test_equals_reduce_lr_on_plateau_on_positive_losses(
    losses, factor, patience, threshold, cooldown, min_scale, mode
):
    ours = Plateau(
        factor=factor,
        patience=patience,
        threshold=threshold,
        cooldown=cooldown,
        min_scale=min_scale,
        window=1,
        mode=mode,
    )
    assert scales(run(ours, losses)) == torch_scales(
        losses,
        factor=factor,
        patience=patience,
        threshold=threshold,
        cooldown=cooldown,
        min_scale=min_scale,
        mode=mode,
    )


@pytest.mark.parametrize("base_lr", [5e-5, 0.1])
def test_equals_reduce_lr_on_plateau_at_the_rates_people_use(base_lr):
    losses = [2 + math.sin(n) / (n + 1) for n in range(100)]
    ours = Plateau(factor=0.7, patience=2, threshold=1e-4, cooldown=1, min_scale=1e-3, window=1)
    theirs = torch_scales(
        losses,
        base_lr=base_lr,
        factor=0.7,
        patience=2,
        threshold=1e-4,
        cooldown=1,
        min_scale=1e-3,
    )
    assert scales(run(ours, losses)) == pytest.approx(theirs, rel=1e-12)
    assert min(theirs) == pytest.approx(1e-3)


def test_a_worsening_negative_loss_lowers_the_rate_where_torch_keeps_it():
    """Pytorch/pytorch#47513: ``best * (1 - threshold)`` asks for less of a negative best."""
    worsening = [-100.0, -99.5, -99.0, -98.5]
    ours = Plateau(factor=0.5, patience=0, threshold=0.01, window=1)
    assert scales(run(ours, worsening)) == [1.0, 1.0, 0.5, 0.25, 0.125]
    assert torch_scales(worsening, factor=0.5, patience=0, threshold=0.01) == [1.0] * 5


def test_a_window_smooths_the_loss():
    saw = [4.0, 2.0, 4.0, 2.0, 1.0]
    smooth = Plateau(factor=0.5, patience=0, threshold=0.0, window=2)
    assert [state.best for state in run(smooth, saw)] == [None, 4.0, 3.0, 3.0, 3.0, 1.5]
    assert scales(run(smooth, saw)) == [1.0, 1.0, 1.0, 0.5, 0.25, 0.25]


def test_each_observation_has_its_reason():
    ours = Plateau(factor=0.5, patience=1, threshold=0.0, window=1)
    losses = [2.0, 1.0, 1.0, math.nan, 1.0]
    assert [state.reason for state in run(ours, losses)] == [
        "start",
        "hold",
        "hold",
        "hold",
        "ignore",
        "lower",
    ]


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("factor", 1.0, ValueError),
        ("patience", -1, ValueError),
        ("patience", 0.5, TypeError),
        ("threshold", 1.5, ValueError),
        ("cooldown", -1, ValueError),
        ("min_scale", 0.0, ValueError),
        ("min_scale", 2.0, ValueError),
        ("window", 0, ValueError),
        ("mode", "MAX", ValueError),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_value(setting, value, error):
    with pytest.raises(error) as refusal:
        Plateau(**{setting: value})
    assert setting in str(refusal.value)
    assert f"{value:g}" if isinstance(value, float) else str(value) in str(refusal.value)
