"""``Greedy(variant=...)``: the six rules that carry the name GreedyLR, behind one front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from lrpilot.schedules.checks import Mode, check_known
from lrpilot.schedules.greedy.advanced import Advanced
from lrpilot.schedules.greedy.noise import NoiseGreedy
from lrpilot.schedules.greedy.published import Algorithm1, Algorithm2, TransformersGreedy
from lrpilot.schedules.greedy.released import ThresholdMode
from lrpilot.schedules.greedy.threshold import ThresholdGreedy
from lrpilot.schedules.protocol import Calm, Schedule, Signal

Variant = Literal["blog", "algorithm1", "algorithm2", "fork", "advanced", "transformers"]
Test = Literal["noise", "threshold"]


def _fork(*, threshold_mode: ThresholdMode = "absolute", **settings: Any) -> Algorithm2:
    """Algorithm 2 with the one default that the authors' fork changes."""
    return Algorithm2(threshold_mode=threshold_mode, **settings)


# "blog" has two tests; the others have the one of their source.
RULES: Mapping[tuple[str, str | None], Callable[..., Schedule[Any]]] = {
    ("blog", "noise"): NoiseGreedy,
    ("blog", "threshold"): ThresholdGreedy,
    ("algorithm1", None): Algorithm1,
    ("algorithm2", None): Algorithm2,
    ("fork", None): _fork,
    ("advanced", None): Advanced,
    ("transformers", None): TransformersGreedy,
}
VARIANTS = tuple(dict.fromkeys(variant for variant, _ in RULES))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Greedy:
    """GreedyLR: raise the rate while the loss improves; lower it while it worsens.

    Each observation is one optimizer step's loss. By default the rate moves only on evidence that
    noise does not explain, and a raise that does not pay is taken back: see `NoiseGreedy`. With
    ``test="threshold"`` a loss is better than the best so far or it is not: see `ThresholdGreedy`.
    Source: Subramanian et al., arXiv 2512.14527, in the reading of its five techniques by the
    authors' announcement: warm-up and cooldown *continue* a change when the trend reverses.

    variant: "blog" (the above), or a published algorithm, faults included: "algorithm1" and
        "algorithm2" of the paper, "fork" (the authors'), "advanced" (their 8,100-run study),
        "transformers" (`transformers.GreedyLR` 5.23, bit for bit). These set absolute rates: over
        base rate 1, ``start_scale`` is the first rate and the bounds are rates;
        `lrpilot.torch.GreedyLR` arranges that by itself.
    test: "noise" or "threshold", of variant "blog" alone.
    factor: in (0, 1). A cut multiplies the rate by it, a raise divides by it.
    patience: at least 0. The rate moves after ``patience + 1`` equal verdicts in a row.
    window: losses that are averaged before anything is compared: in blocks (test "noise"), or
        running.
    evidence: standard errors that a trend needs, in [1, 10]; test "noise".
    threshold: smallest change that counts, as a fraction of the loss's size, in [0, 1).
    warmup, cooldown: after a raise (a cut), go on raising (cutting) so many blocks (test "noise")
        or observations from the first contrary verdict on; 0 turns it off. In the other variants
        they mean what their source makes of them.
    min_scale, max_scale: bounds of the rate as multiples of the base rate.
    mode: "min" for losses; "max", for scores, is the exact mirror.
    threshold_mode, eps, reset_after, start_scale, spike, adaptive: of published variants.

    None stands for the variant's default; a setting that the variant lacks raises TypeError.

    >>> Greedy()
    Greedy(variant='blog', test='noise', factor=0.7, patience=0, window=10, evidence=4.0, \
threshold=0.0001, warmup=0, cooldown=0, min_scale=0.1, max_scale=10.0, mode='min')
    >>> greedy = Greedy(test="threshold", factor=0.5, patience=0, window=1)
    >>> state = greedy.init()
    >>> for loss in (4.0, 3.0, 5.0):
    ...     state = greedy.update(state, Signal(loss))
    ...     print(state.scale, state.reason)
    1.0 calibrate
    2.0 raise
    1.0 lower
    """

    variant: Variant = "blog"
    test: Test | None = None
    factor: float | None = None
    patience: int | None = None
    window: int | None = None
    evidence: float | None = None
    threshold: float | None = None
    threshold_mode: ThresholdMode | None = None
    warmup: int | None = None
    cooldown: int | None = None
    min_scale: float | None = None
    max_scale: float | None = None
    eps: float | None = None
    reset_after: int | None = None
    start_scale: float | None = None
    spike: bool | None = None
    adaptive: bool | None = None
    mode: Mode | None = None
    rule: Schedule[Any] = field(init=False, compare=False)
    # The rule's own, since they run at every step; the last two are None if it has none.
    update: Callable[[Any, Signal], Any] = field(init=False, compare=False)
    calm: Callable[[Any], Calm] | None = field(init=False, compare=False)
    absorb: Callable[[Any, Sequence[float]], Any] | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        check_known("variant", self.variant, VARIANTS)
        test = "noise" if self.variant == "blog" and self.test is None else self.test
        if (self.variant, test) not in RULES:
            raise ValueError(
                f"variant {self.variant!r} has no test {self.test!r}; 'noise' and 'threshold' are "
                f"tests of variant 'blog'"
            )
        given = {name: value for name, value in self._settings() if value is not None}
        try:
            rule = RULES[self.variant, test](**given)
        except TypeError as error:
            self._refuse_unknown(test, given)
            raise error from None
        object.__setattr__(self, "test", test)
        object.__setattr__(self, "rule", rule)
        for name in ("update", "calm", "absorb"):
            object.__setattr__(self, name, getattr(rule, name, None))
        for name, _ in self._settings():
            object.__setattr__(self, name, getattr(rule, name, None))

    @classmethod
    def untuned(cls) -> Self:
        """Settings for a base rate that nobody has tuned, too low rather than too high.

        The rate may rise a thousandfold, by doubling, each time that doubling has paid.
        """
        return cls(factor=0.5, window=5, max_scale=1000.0)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> Any:
        """State before the first observation."""
        return self.rule.init()

    def __repr__(self) -> str:
        head = [("variant", self.variant), ("test", self.test)]
        shown = [
            f"{name}={value!r}" for name, value in (*head, *self._settings()) if value is not None
        ]
        return f"Greedy({', '.join(shown)})"

    def _settings(self) -> list[tuple[str, Any]]:
        apart = ("variant", "test")
        return [
            (f.name, getattr(self, f.name)) for f in fields(self) if f.init and f.name not in apart
        ]

    def _refuse_unknown(self, test: str | None, given: Mapping[str, Any]) -> None:
        known = RULES[self.variant, test]()
        for name in given:
            if not hasattr(known, name):
                of = f"variant {self.variant!r}" + (f" with test {test!r}" if test else "")
                raise TypeError(f"{name} is no setting of {of}; leave it out")
