"""GreedyLR read literally from its description, slowly and in exact arithmetic.

The rule is the docstring of `lrpilot.schedules.Greedy`; the continuation is "continue" of the
authors' announcement: after a move, the first opposite observation starts ``hold`` repetitions of
the move, during which the counters stay 0.
"""

import math
from fractions import Fraction


class ReferenceGreedy:
    def __init__(
        self, factor, patience, window, threshold, warmup, cooldown, min_scale, max_scale, mode
    ):
        self.factor = factor
        self.patience = patience
        self.window_size = window
        self.threshold = Fraction(threshold)
        self.hold = {"up": warmup, "down": cooldown}
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.sign = 1 if mode == "min" else -1
        self.scale = 1.0
        self.history = []
        self.best = None
        self.improvements_in_a_row = 0
        self.failures_in_a_row = 0
        self.last_move = None  # None once its continuation is over
        self.repetitions_left = 0

    def observe(self, loss):
        """Take one loss; return the new scale and why."""
        if math.isnan(loss) or math.isinf(loss):
            return self.scale, "ignore"
        self.history.append(self.sign * Fraction(loss))
        if len(self.history) < self.window_size:
            return self.scale, "calibrate"
        recent = self.history[-self.window_size :]
        level = sum(recent) / len(recent)
        if self.best is None:
            self.best = level
            return self.scale, "calibrate"

        required = self.best - self.threshold * abs(self.best)
        observation = "good" if level < required else "bad"
        if observation == "good":
            self.best = level

        opposite = {None: None, "up": "bad", "down": "good"}[self.last_move]
        if self.repetitions_left == 0 and observation == opposite:
            self.repetitions_left = self.hold[self.last_move]
        if self.repetitions_left > 0:
            self.repetitions_left -= 1
            direction = self.last_move
            self.move(direction)
            if self.repetitions_left == 0:
                self.last_move = None
            return self.scale, {"up": "warmup", "down": "cooldown"}[direction]

        if observation == "good":
            self.improvements_in_a_row += 1
            self.failures_in_a_row = 0
        else:
            self.failures_in_a_row += 1
            self.improvements_in_a_row = 0
        if self.improvements_in_a_row == self.patience + 1:
            self.move("up")
            return self.scale, "raise"
        if self.failures_in_a_row == self.patience + 1:
            self.move("down")
            return self.scale, "lower"
        return self.scale, "hold"

    def move(self, direction):
        if direction == "up":
            self.scale = self.scale / self.factor
        else:
            self.scale = self.scale * self.factor
        if self.scale > self.max_scale:
            self.scale = self.max_scale
        if self.scale < self.min_scale:
            self.scale = self.min_scale
        self.last_move = direction
        self.improvements_in_a_row = 0
        self.failures_in_a_row = 0
