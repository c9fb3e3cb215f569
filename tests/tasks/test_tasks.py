import math
import pickle
import random
import sysconfig
from itertools import accumulate, combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.datasets import load_sample_images

from lrpilot.bench.suite import TORCH_OPTIMIZERS as OPTIMIZERS
from lrpilot.tasks import TASKS, find_task
from lrpilot.tasks.autoencoders import held_out_patches
from lrpilot.tasks.coordinates import pixels
from lrpilot.tasks.data import digits, digits_matrix, split_rows, stdlib_source
from lrpilot.tasks.factorisation import fit_rows
from lrpilot.tasks.fine_tuning import manual
from lrpilot.tasks.photographs import patches, photographs
from lrpilot.tasks.shapes import held_out_shapes
from lrpilot.tasks.waves import held_out_signals

# The rest train to the end of their budget.
SHORTENED = {
    **{"bytes-lm": 60, "bytes-gpt": 60, "bytes-lora": 60},
    **{"waves-mlp": 300, "waves-gru": 150, "shapes-cnn": 400, "digits-vit": 300},
    **{"digits-vae": 100, "patches-autoencoder": 100, "flower-coordinates": 100},
}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def start(task, seed=0, optimizer="adamw"):
    return task.start(seed, OPTIMIZERS[optimizer])


def train(run, steps, lr):
    return [run.step(lr) for _ in range(steps)]


def parameters(run):
    return [p.detach().clone() for p in run.parameters]


def equal(these, those):
    return all(torch.equal(a, b) for a, b in zip(these, those, strict=True))


@every_task
def test_the_same_seed_gives_the_same_run_bit_for_bit(task):
    first, second = start(task), start(task)
    lr = task.lrs["adamw"]
    losses = train(first, 30, lr)
    # Chance that is not the run's own: must not matter.
    torch.manual_seed(1)
    np.random.seed(1)
    assert losses == train(second, 30, lr)
    assert equal(parameters(first), parameters(second))
    assert first.evaluate() == second.evaluate()
    assert first.evaluate("test") == second.evaluate("test")


@every_task
def test_the_optimizer_and_the_rate_do_not_change_the_start_or_the_data_order(task):
    still, moving = start(task, optimizer="sgd"), start(task, optimizer="adamw")
    assert equal(parameters(still), parameters(moving))
    train(still, 5, 0.0)
    train(moving, 5, task.lrs["adamw"])
    with torch.no_grad():
        for p, q in zip(still.parameters, moving.parameters, strict=True):
            q.copy_(p)
    assert still.step(0.0) == moving.step(0.0)


@every_task
def test_seeds_differ_in_data_order_and_in_the_start(task):
    first, second = start(task, seed=0), start(task, seed=1)
    assert not equal(first.values.values(), second.values.values())
    # Fine-tuning begins at one trained model: the seed draws what is multiplied by zero.
    alike = task.name == "bytes-lora"
    assert (first.evaluate() == second.evaluate()) is alike
    with torch.no_grad():
        for p, q in zip(first.parameters, second.parameters, strict=True):
            q.copy_(p)
    # Weights of zero, where this one begins, have the same loss on any data.
    alike = task.name == "logreg-stream"
    assert (train(first, 3, 0.0) == train(second, 3, 0.0)) is alike


@every_task
def test_evaluating_changes_nothing_that_follows(task):
    watched, unwatched = start(task), start(task)
    lr = task.lrs["adamw"]
    losses = []
    for _ in range(10):
        losses += train(watched, 1, lr)
        assert watched.evaluate() == watched.evaluate()
        watched.evaluate("test")
    assert losses == train(unwatched, 10, lr)
    assert watched.evaluate() == unwatched.evaluate()


@every_task
def test_global_random_states_are_left_alone(task):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    run = start(task)
    train(run, 5, 0.01)
    run.evaluate()
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()


@every_task
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rate_zero_leaves_the_parameters_where_they_are(task, optimizer):
    run = start(task, optimizer=optimizer)
    before, held_out = parameters(run), run.evaluate()
    train(run, 3, 0.0)
    assert equal(before, parameters(run))
    # Running statistics of batch norm change at any rate, and evaluation reads them.
    assert (run.evaluate() == held_out) is (task.name != "digits-cnn")


@every_task
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_huge_rate_shows_in_the_loss_and_raises_nothing(task, optimizer):
    run = start(task, optimizer=optimizer)
    first = run.evaluate()
    losses = [*train(run, 5, 1e12), run.evaluate()]
    # A step too far can project both factors to zero, where the loss is 1 and stays.
    far = 0.9 * first if task.name.startswith("nmf-") else 1e3 * first
    assert any(not math.isfinite(loss) or loss > far for loss in losses)


@every_task
def test_the_loss_falls_far_below_where_it_began(task):
    run = start(task)
    first = run.evaluate()
    steps = SHORTENED.get(task.name, task.total_steps)
    for step in range(steps):
        run.step(task.lrs["adamw"] * (1 - step / steps))
    # Held-out rows of the photograph are fitted well by random parts already, and the model that is
    # fine-tuned has been trained.
    left = {"nmf-photo": 1.1, "bytes-lora": 0.9}.get(task.name, 0.7)
    assert run.evaluate() < left * first
    assert run.evaluate("test") < left * first


@every_task
def test_a_task_is_described_and_has_a_rate_for_every_optimizer(task):
    assert TASKS[task.name] is task
    assert task.summary
    assert "\n" not in task.summary
    assert task.metric
    assert task.total_steps >= 100
    assert task.version >= 1
    assert task.lrs.keys() == OPTIMIZERS.keys()
    # Its running statistics are no parameters: the losses are not pure.
    assert not (task.batchable and "batch norm" in task.summary)


@every_task
def test_a_summary_counts_the_parameters(task):
    count = sum(p.numel() for p in start(task).parameters)
    if "k parameters" in task.summary:
        assert f"{count / 1000:.0f}k parameters" in task.summary
    elif "parameters" in task.summary:
        assert f"{count:,} parameters" in task.summary


@every_task
def test_tasks_travel_to_other_processes(task):
    there = pickle.loads(pickle.dumps(task))
    assert train(start(there), 2, 0.01) == train(start(task), 2, 0.01)


def test_rows_are_dealt_out_once_each():
    parts = split_rows(100, held_out=20)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [60, 20, 20]


@pytest.mark.parametrize(
    "parts",
    [digits_matrix, stdlib_source, manual, lambda: {p: e.inputs for p, e in digits().items()}],
    ids=["digits_matrix", "stdlib_source", "manual", "digits"],
)
def test_no_part_of_the_data_holds_anything_of_another(parts):
    def pieces(data):
        if data.ndim == 1:  # text: stretches long enough not to recur by chance
            data = data[: len(data) // 1000 * 1000].view(-1, 1000)
        return {row.numpy().tobytes() for row in data}

    for these, those in combinations(parts().values(), 2):
        assert not pieces(these) & pieces(those)


def test_no_paragraph_of_the_manual_stands_twice():
    paragraphs = [
        paragraph
        for part in manual().values()
        for paragraph in bytes(part.tolist()).decode().split("\n\n")
    ]
    assert len(set(paragraphs)) == len(paragraphs)


def test_the_photographs_are_cut_into_regions_side_by_side():
    whole = np.stack(load_sample_images().images)
    parts = [photographs()[part] for part in ("train", "validation", "test")]
    together = torch.cat(parts, dim=2).numpy()
    assert together.shape == whole.shape
    assert np.corrcoef(together.ravel(), whole.ravel())[0, 1] == pytest.approx(1)


def test_every_pixel_of_the_flower_is_in_one_part():
    features = torch.cat([part.inputs[:, :8] for part in pixels().values()]).numpy()
    assert len(features) == 427 * 640
    assert len(np.unique(features.view("V32"))) == len(features)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_patches_are_cut_from_the_region_asked_for(part):
    lines = photographs()[part].unfold(2, 8, 1).transpose(-1, -2)  # (2, 427, places, 8, 3)
    for patch in patches(part, 10, 8, np.random.default_rng(0)):
        assert (lines == patch[0]).all(dim=(-1, -2)).any()


@pytest.mark.parametrize("held_out", [held_out_signals, held_out_shapes, held_out_patches])
def test_what_is_drawn_without_end_is_judged_by_examples_of_its_own(held_out):
    validation, test = (held_out()[part][0] for part in ("validation", "test"))
    assert validation.shape == test.shape
    rows = torch.cat([validation, test]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows)


def test_the_text_is_whole_source_files_in_order():
    text = b"".join(bytes(part.tolist()) for part in stdlib_source().values())
    ends = set()
    begin = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[!_]*.py")):
        if begin == len(text):
            break
        source = path.read_bytes()
        assert text[begin : begin + len(source)] == source
        begin += len(source)
        ends.add(begin)
    lengths = [len(part) for part in stdlib_source().values()]
    assert set(accumulate(lengths)) <= ends
    assert 1_000_000 <= lengths[0] < 1_500_000


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nmf_factors_stay_non_negative(optimizer):
    task = find_task("nmf-digits")
    run = start(task, optimizer=optimizer)
    for _ in range(50):
        run.step(3 * task.lrs[optimizer])
        assert all((p >= 0).all() for p in run.parameters)


def test_held_out_rows_get_their_best_coefficients():
    task = find_task("nmf-digits")
    run = start(task)
    train(run, 200, task.lrs["adamw"])
    V, H = digits_matrix()["validation"].numpy(), run.values["H"].detach().numpy()
    squared_residuals = sum(nnls(H.T, row)[1] ** 2 for row in V)
    assert run.evaluate() == pytest.approx(squared_residuals / (V**2).sum(), rel=1e-4)


def test_a_part_that_died_out_takes_no_coefficient():
    H = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert torch.equal(fit_rows(torch.tensor([[3.0, 4.0]]), H), torch.tensor([[3.0, 0.0]]))


def test_the_excess_is_zero_at_the_optimum_and_nowhere_below():
    run = start(find_task("noisy-quadratic"))
    assert run.evaluate() == run.evaluate("test")
    lbfgs = torch.optim.LBFGS(
        run.parameters, max_iter=500, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        lbfgs.zero_grad()
        excess = run.problem.held_out_loss(run.values, "validation")
        excess.backward()
        return excess

    lbfgs.step(closure)
    assert 0 <= run.evaluate() < 1e-6


def test_an_unknown_task_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"'digit-mlp'; did you mean 'digits-mlp'\? \(known: "):
        find_task("digit-mlp")
    with pytest.raises(ValueError, match=r"unknown task 'zzz' \(known: digits-mlp, "):
        find_task("zzz")


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        start(find_task("noisy-quadratic"), seed=-1)
