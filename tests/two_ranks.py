"""What two ranks of a distributed training see and do; run by ``tests/torch/test_ranks.py``.

    python two_ranks.py RANK FOLDER

Each rank writes what came of every scenario, by name, into the folder.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers.optimization import GreedyLR as TransformersGreedyLR

from lrpilot.torch import LearnedLR, ScheduledLR
from policies import reading_policy
from scheduled import LOSSES, Seen, alert, lrs, resumed, sgd

STEPS = 40


def train(make_scheduler, *, wrap=DistributedDataParallel, make=optim.SGD) -> dict:
    """Training on this rank's own data, which is what its loss is of."""
    torch.manual_seed(0)
    model = wrap(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
    optimizer = make(model.parameters(), lr=0.02)
    scheduler = make_scheduler(optimizer)
    data, rates = torch.Generator().manual_seed(dist.get_rank()), []
    for _ in range(STEPS):
        inputs = torch.randn(8, 4, generator=data)
        loss = (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss.detach())
        rates += lrs(optimizer)
    weights = [
        getattr(weight, "full_tensor", lambda weight=weight: weight)()
        for weight in model.parameters()
    ]
    return {"rates": rates, "weights": [weight.flatten().tolist() for weight in weights]}


def ours(**settings):
    return lambda optimizer: ScheduledLR(optimizer, alert(window=2), **settings)


def learned(optimizer):
    return LearnedLR(optimizer, 40, policy=reading_policy(6))


def sharded(model):
    return fully_shard(model, mesh=init_device_mesh("cpu", (2,)))


def zero(parameters, lr):
    return ZeroRedundancyOptimizer(parameters, optim.SGD, lr=lr)


def losses_seen(losses, *, observe=None, **settings) -> ScheduledLR:
    scheduler = ScheduledLR(sgd(0.1), Seen(), **settings)
    for loss in losses:
        scheduler.optimizer.step()
        scheduler.step(loss)
    return scheduler


def seen(rank, **settings) -> dict:
    scheduler = losses_seen([loss + 10 * rank for loss in LOSSES], **settings)
    return {"losses": scheduler.state.losses, "lag": scheduler.lag}


def weighted(rank) -> list[float]:
    scheduler = ScheduledLR(sgd(0.1), Seen())
    for loss, count in ((1.0, 3), (5.0, 1)):
        scheduler.observe(loss + rank, count + rank)
    scheduler.optimizer.step()
    scheduler.step()
    return scheduler.state.losses


def with_nan(rank) -> dict:
    scheduler = losses_seen([1.0, float("nan") if rank else 2.0, 3.0])
    return {"losses": scheduler.state.losses, "ignored": scheduler.state.ignored}


def consumed(rank) -> list[float]:
    scheduler = ScheduledLR(sgd(0.1), Seen(needs=("loss", "tokens", "epochs")))
    scheduler.step(1.0, tokens=100 + rank, epochs=0.25)
    return [*scheduler.state.tokens, scheduler.state.epochs]


def only_the_last_rank_has_a_loss(rank) -> list[float]:
    scheduler = ScheduledLR(sgd(0.1), Seen())
    for loss in LOSSES:
        scheduler.optimizer.step()
        scheduler.step(loss if rank else None)
    return scheduler.state.losses


def resumed_with_losses_on_their_way(rank) -> dict:
    mine = [loss + 10 * rank for loss in LOSSES]
    whole = losses_seen(mine, lag=2)
    head = losses_seen(mine[:5], lag=2)
    tail = resumed(head, lag=2)
    for loss in mine[5:]:
        tail.optimizer.step()
        tail.step(loss)
    return {"whole": whole.state_dict(), "tail": tail.state_dict()}


def apart(rank) -> str:
    """The ranks load checkpoints of different steps."""
    state = losses_seen(LOSSES[: 3 + rank], ranks="given").state_dict()
    scheduler = ScheduledLR(sgd(0.1), Seen())
    scheduler.load_state_dict(state)
    scheduler.optimizer.step()
    try:
        scheduler.step(1.0)
    except ValueError as error:
        return str(error)
    return "nobody noticed"


def collectives(rank) -> int:
    """All-reduces of nine steps of three micro-batches each."""
    calls, all_reduce = 0, dist.all_reduce

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        return all_reduce(*args, **kwargs)

    dist.all_reduce = counted
    scheduler = ScheduledLR(sgd(0.1), Seen())
    scheduler.optimizer.step()
    for loss in LOSSES:
        scheduler.step(loss)
        scheduler.observe(loss)
        scheduler.observe(loss)
        scheduler.optimizer.step()
    dist.all_reduce = all_reduce
    return calls


def in_a_group_of_its_own(rank) -> list[float]:
    groups = [dist.new_group([one]) for one in range(2)]
    return losses_seen([1.0 + rank, 2.0 + rank], process_group=groups[rank]).state.losses


SCENARIOS = {
    "ours": lambda rank: train(ours()),
    "ours, not reduced": lambda rank: train(ours(ranks="given")),
    "ours, first": lambda rank: train(ours(ranks="first")),
    "ours, lag": lambda rank: train(ours(lag=2)),
    "ours, FSDP2": lambda rank: train(ours(), wrap=sharded),
    "ours, ZeRO": lambda rank: train(ours(), make=zero),
    "policy": lambda rank: train(learned),
    "policy, FSDP2": lambda rank: train(learned, wrap=sharded),
    "policy, ZeRO": lambda rank: train(learned, make=zero),
    "torch": lambda rank: train(lambda o: ReduceLROnPlateau(o, patience=0, factor=0.5)),
    "transformers": lambda rank: train(
        lambda o: TransformersGreedyLR(o, patience=0, factor=0.5, min_lr=1e-3)
    ),
    "mean": seen,
    "first": lambda rank: seen(rank, ranks="first"),
    "given": lambda rank: seen(rank, ranks="given"),
    "mean, lag": lambda rank: seen(rank, lag=3),
    "weighted": weighted,
    "NaN": with_nan,
    "consumed": consumed,
    "last": only_the_last_rank_has_a_loss,
    "resumed": resumed_with_losses_on_their_way,
    "apart": apart,
    "collectives": collectives,
    "own group": in_a_group_of_its_own,
}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="torch")
        results = {}
        for name, scenario in SCENARIOS.items():
            print(name, file=sys.stderr)  # the last one is the one that failed
            results[name] = scenario(rank)
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
