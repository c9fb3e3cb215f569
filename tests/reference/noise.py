"""GreedyLR's noise test read literally from its documentation: lists, and fits by libraries."""

import math

import numpy as np

LOOKS = (8, 12, 18, 27, 40, 60, 90)


def line_through(means):
    """Slope, its error, level at the end, its error, and the deviation of the block means."""
    n = len(means)
    t = np.arange(n)
    slope, intercept = np.polyfit(t, means, 1)
    residuals = np.asarray(means) - (intercept + slope * t)
    squares = float(np.sum(residuals**2))
    correlation = 1 - float(np.sum(np.diff(residuals) ** 2)) / (2 * squares) + 1 / n
    correlation = min(max(correlation, 0.0), 0.95)
    independent = (1 - correlation) / (1 + correlation)  # share of the values that count
    variance = squares / (n - 2)
    slope_error = math.sqrt(variance / independent / float(np.sum((t - t.mean()) ** 2)))
    level_error = 2 * math.sqrt(variance / independent / n)
    return slope, slope_error, intercept + slope * (n - 1), level_error, math.sqrt(variance)


class ReferenceNoise:
    """For continuous losses of which no two are equal: ties and rounding are not looked after."""

    def __init__(self, rule, critical):
        self.rule = rule
        self.critical = critical
        self.scale = 1.0
        self.block, self.means = [], []
        self.alarm = math.inf
        self.hot = False
        self.better_in_a_row = self.worse_in_a_row = 0
        self.continuation, self.to_go = None, 0
        self.trial = None
        self.before_brake = self.mark = None
        self.ceiling, self.blocks_to_forget, self.next_memory = math.inf, 0, 50

    def observe(self, loss):
        """Take one loss; return the new scale and why."""
        loss = loss if self.rule.mode == "min" else -loss
        was_hot, self.hot = self.hot, loss > self.alarm
        if self.hot and was_hot:
            return self.brake(loss)
        self.block.append(loss)
        if len(self.block) < self.rule.window:
            return self.scale, "hold"
        mean = sum(self.block) / len(self.block)
        self.block = []
        if self.to_go:
            self.hot = False
            return self.go_on()
        self.means.append(mean)
        return self.look()

    def look(self):
        n = len(self.means)
        if n != 4 and n not in LOOKS:
            return self.scale, "hold"
        slope, slope_error, level, level_error, deviation = line_through(self.means)
        needed = self.critical(self.rule.evidence, n - 2)
        margin = self.rule.threshold * abs(level)
        single = deviation * math.sqrt(self.rule.window) * needed / self.rule.evidence
        travelled = max(abs(slope) * (n - 1), margin)
        self.alarm = max(level, self.means[-1]) + travelled + 10 * single
        if n not in LOOKS:
            return self.scale, "hold"
        change = slope * (n - 1)
        verdict = None
        steps = np.diff(self.means)
        monotone = bool(np.all(steps > 0) or np.all(steps < 0))
        if (abs(slope) > needed * slope_error or monotone) and abs(change) > margin:
            verdict = "worse" if slope > 0 else "better"
        if self.before_brake is not None:
            before, self.before_brake = self.before_brake, None
            if level <= self.mark:
                self.forget(n)
                self.means, self.hot = [], False
                self.scale = self.ceiling = min(before, self.rule.max_scale)
                return self.scale, "recover"
        if verdict is None and not self.trial_fails(
            None, slope, level, needed, level_error, margin
        ):
            if n == LOOKS[-1]:
                self.forget(n)
                self.means = []
            return self.scale, "hold"
        self.forget(n)
        self.means, self.hot = [], False
        if self.trial_fails(verdict, slope, level, needed, level_error, margin, n):
            self.scale = max(self.scale * self.rule.factor, self.rule.min_scale)
            self.remember(self.scale)
            return self.scale, "revert"
        if verdict == "better":
            return self.better(n, -slope, level)
        return self.worse()

    def trial_fails(self, verdict, slope, level, needed, level_error, margin, n=None):
        if self.trial is None:
            return False
        n = len(self.means) if n is None else n
        speed, mark, deadline = self.trial
        higher = level - mark > max(1.5 * needed * level_error, margin)
        slower = -slope < speed if verdict == "better" else n >= deadline
        return verdict == "worse" or higher or slower

    def better(self, n, speed, level):
        if self.continuation == "down":
            self.to_go = self.rule.cooldown
            return self.go_on()
        self.better_in_a_row += 1
        self.worse_in_a_row = 0
        self.trial = None
        raised = min(self.scale / self.rule.factor, self.rule.max_scale, self.ceiling)
        if self.better_in_a_row <= self.rule.patience or raised <= self.scale:
            return self.scale, "hold"
        self.scale, self.better_in_a_row = raised, 0
        self.continuation = "up" if self.rule.warmup else None
        self.trial = None if self.rule.warmup else (speed, level, min(2 * n, LOOKS[-1]))
        return self.scale, "raise"

    def worse(self):
        if self.continuation == "up":
            self.to_go = self.rule.warmup
            return self.go_on()
        self.worse_in_a_row += 1
        self.better_in_a_row = 0
        if self.worse_in_a_row <= self.rule.patience:
            return self.scale, "hold"
        self.scale = max(self.scale * self.rule.factor, self.rule.min_scale)
        self.worse_in_a_row = 0
        self.continuation = "down" if self.rule.cooldown else None
        return self.scale, "lower"

    def go_on(self):
        self.to_go -= 1
        upwards = self.continuation == "up"
        if upwards:
            raised = min(self.scale / self.rule.factor, self.rule.max_scale, self.ceiling)
            self.scale = max(self.scale, raised)
        else:
            self.scale = max(self.scale * self.rule.factor, self.rule.min_scale)
        if not self.to_go:
            self.continuation = None
        return self.scale, "warmup" if upwards else "cooldown"

    def brake(self, loss):
        excess = max(loss - self.means[-1], 0.0) if self.means else 0.0
        self.before_brake = self.scale if self.means and not self.blocks_to_forget else None
        first = self.means[0] if self.means else 0.0
        self.mark = first + (self.alarm - first) / 10
        self.alarm = loss + excess
        self.remember(max(self.scale * self.rule.factor, self.rule.min_scale))
        self.scale = max(self.scale * self.rule.factor**2, self.rule.min_scale)
        self.block, self.means, self.hot = [], [], False
        self.continuation, self.to_go = None, 0
        return self.scale, "brake"

    def remember(self, ceiling):
        self.better_in_a_row = self.worse_in_a_row = 0
        self.trial = None
        self.ceiling = min(self.ceiling, ceiling)
        self.blocks_to_forget = self.next_memory
        self.next_memory *= 2

    def forget(self, blocks):
        self.blocks_to_forget = max(self.blocks_to_forget - blocks, 0)
        if not self.blocks_to_forget:
            self.ceiling = math.inf
