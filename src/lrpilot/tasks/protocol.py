"""What a task is: something real that trains from a seed and tells its losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, Protocol

from torch import Tensor
from torch.optim import Optimizer

Split = Literal["validation", "test"]
OptimizerFactory = Callable[[Iterable[Tensor], float], Optimizer]


class Run(Protocol):
    """One training run under way."""

    def step(self, lr: float) -> float:
        """Take one optimizer step at rate ``lr``.

        Returns the training loss of this step's minibatch, at the parameters before the step.
        """
        ...

    def evaluate(self, split: Split = "validation") -> float:
        """Loss on the whole held-out split, in the task's ``metric``; draws no random number."""
        ...

    @property
    def extra_forwards(self) -> int:
        """Forward passes beyond one per step so far, as a line search makes."""
        ...


class Task(Protocol):
    """A model, its data and its budget. Same seed, same run, bit for bit."""

    @property
    def name(self) -> str:
        """What the command line calls it."""
        ...

    @property
    def summary(self) -> str:
        """One line: model, data, sizes."""
        ...

    @property
    def metric(self) -> str:
        """What ``evaluate`` returns, with its unit, such as "cross-entropy (nats)"."""
        ...

    @property
    def total_steps(self) -> int:
        """The usual budget, in optimizer steps."""
        ...

    @property
    def lrs(self) -> Mapping[str, float]:
        """A good base rate per optimizer name, tuned for cosine on the half-decade grid."""
        ...

    @property
    def version(self) -> int:
        """Rises with every change that alters the numbers a run yields."""
        ...

    def start(self, seed: int, optimizer: OptimizerFactory) -> Run:
        """Begin a run; ``optimizer`` is called with the parameters and an initial rate."""
        ...
