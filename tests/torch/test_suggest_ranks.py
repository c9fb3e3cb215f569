"""`suggest_lr` on two processes that talk through gloo."""

import os
import subprocess
import sys
import textwrap

RANK = """
    import math, sys, torch, torch.distributed as dist
    from torch import nn, optim
    from lrpilot.torch.suggest import suggest_lr

    torch.set_num_threads(1)
    rank, file = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)

    def suggest(nan_from=math.inf, fails_at=math.inf, alone=False):
        weight = nn.Parameter(torch.zeros(4))
        optimizer = optim.SGD([weight], lr=0.1)
        data = torch.Generator().manual_seed(rank)
        own = []

        def step():
            if rank == 1 and len(own) == fails_at:
                raise OSError("the disk is full")
            inputs = torch.randn(32, 4, generator=data)
            loss = (inputs @ weight - inputs.sum(dim=1)).square().mean() * (1 + rank)
            optimizer.zero_grad()
            loss.backward()
            if not alone:
                dist.all_reduce(weight.grad)
            optimizer.step()
            own.append(loss.item())
            return math.nan if rank == 1 and optimizer.param_groups[0]["lr"] > nan_from else loss

        try:
            suggested = suggest_lr(nn.Module(), optimizer, step)
        except Exception as error:
            print(repr(error), weight.tolist(), len(own))
        else:
            print(suggested, weight.tolist(), len(own))
            print("loss", own[0], suggested.sweeps[0].losses[0])

    suggest()
    suggest(nan_from=0.05)
    suggest(alone=True)
    suggest(alone=True, fails_at=29)
    dist.destroy_process_group()
"""


def test_two_ranks_stop_at_the_same_step_and_suggest_the_same(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(RANK)]
    loopback = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meet")],
            stdout=subprocess.PIPE,
            text=True,
            env=loopback,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=60)[0].splitlines() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    (own, mean), (other, same) = (map(float, lines[1].split()[1:]) for lines in said)
    assert mean == same == (own + other) / 2 != own
    ours, theirs = ([line for line in lines if line[:4] != "loss"] for lines in said)
    assert ours[:3] == theirs[:3]
    assert all("3 of 3 seeds improved, diverged at" in line for line in ours[:3])
    assert "diverged at 0.046)" in ours[1]  # the last update before the NaN
    end = "[0.0, 0.0, 0.0, 0.0] {}"
    assert (
        ours[3]
        == f"RuntimeError('train_step failed on another rank; its error is there') {end.format(30)}"
    )
    assert theirs[3] == f"OSError('the disk is full') {end.format(29)}"
