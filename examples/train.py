"""Compare schedules on your own training: lrpilot compare examples/train.py:train."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from lrpilot.bench import TrainingTrial


def train(trial: TrainingTrial) -> None:
    features, classes = load_digits(return_X_y=True)
    x, x_rest, y, y_rest = train_test_split(features / 16, classes, train_size=0.5, random_state=0)
    x_val, x_test, y_val, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=0)

    torch.manual_seed(trial.seed)  # the same seed is used under every schedule
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    total_steps = trial.steps or 300
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.lr, momentum=0.9)
    scheduler = trial.scheduler(optimizer, total_steps)

    for step in range(1, total_steps + 1):
        batch = torch.randint(len(x), (16,))
        loss = loss_on(model, x[batch], y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        if step % 20 == 0 or step == total_steps:
            with torch.no_grad():
                trial.report(loss_on(model, x_val, y_val), test_loss=loss_on(model, x_test, y_test))


def loss_on(model: nn.Module, x, y) -> torch.Tensor:
    logits = model(torch.as_tensor(x, dtype=torch.float32))
    return nn.functional.cross_entropy(logits, torch.as_tensor(y))
