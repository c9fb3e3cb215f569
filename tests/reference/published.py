"""The published GreedyLR rules, step by step as their sources list them.

Algorithms 1, 2 and 3 are those of arXiv 2512.14527; the increase and the running mean, which the
paper leaves out, and the absolute threshold are the authors' fork's. The last class is the rule of
the paper's robustness study. Nothing here is fast, pure or safe; NumPy's mean and standard
deviation are the study's own.
"""

import math

import numpy as np


class ReferenceAlgorithm1:
    def __init__(self, lr, F, mode):
        self.lr = lr
        self.F = F
        self.mode = mode
        self.l_previous = None

    def step(self, loss):
        if self.l_previous is not None:
            better = loss < self.l_previous if self.mode == "min" else loss > self.l_previous
            self.lr = self.lr / self.F if better else self.lr * self.F
        self.l_previous = loss
        return self.lr


class ReferenceStreamingAverage:
    def __init__(self, window_size):
        self.window_size = window_size
        self.queue = []
        self.total = 0.0

    def __call__(self, value):
        self.queue.append(value)
        self.total = self.total + value
        if len(self.queue) > self.window_size:
            self.total = self.total - self.queue.pop(0)
        return self.total / len(self.queue)


class ReferenceAlgorithm2:
    def __init__(
        self, lr, mode, factor, patience, threshold, threshold_mode, cooldown, warmup,
        min_lr, max_lr, eps, smooth, window_size, reset_start,
    ):  # fmt: skip
        self.lr = lr
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.warmup = warmup
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.eps = eps
        self.smooth = smooth
        self.sa = ReferenceStreamingAverage(window_size)
        self.mode_worse = -math.inf if mode == "max" else math.inf
        self.reset_start_original = reset_start
        self.reset()

    def reset(self):
        self.best = self.mode_worse
        self.reset_start = self.reset_start_original
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self.warmup_counter = 0
        self.num_good_epochs = 0

    def is_better(self, a, best):
        match self.mode, self.threshold_mode:
            case "min", "rel":
                return a < best * (1 - self.threshold)
            case "max", "rel":
                return a > best * (1 + self.threshold)
            case "min", "abs":
                return a < best - self.threshold
            case "max", "abs":
                return a > best + self.threshold

    def reduce_lr(self):
        old_lr = self.lr
        new_lr = max(old_lr * self.factor, self.min_lr)
        if old_lr - new_lr > self.eps:
            self.lr = new_lr

    def increase_lr(self):
        old_lr = self.lr
        new_lr = min(old_lr / self.factor, self.max_lr)
        if new_lr - old_lr > self.eps:
            self.lr = new_lr

    def step(self, metric):
        current = metric
        if self.smooth:
            current = self.sa(current)
        if self.is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
            self.num_good_epochs = self.num_good_epochs + 1
        else:
            self.num_bad_epochs = self.num_bad_epochs + 1
            self.num_good_epochs = 0
        if self.cooldown_counter > 0:
            self.cooldown_counter = self.cooldown_counter - 1
            self.num_bad_epochs = 0
        if self.warmup_counter > 0:
            self.warmup_counter = self.warmup_counter - 1
            self.num_good_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.reduce_lr()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        if self.num_good_epochs > self.patience:
            self.increase_lr()
            self.warmup_counter = self.warmup
            self.num_good_epochs = 0
        if self.reset_start == 0:
            self.reset()
        if len({self.lr}) == 1:  # "all groups share one lr", and there is one group
            self.reset_start = self.reset_start - 1
        return self.lr


class ReferenceAdvanced:
    def __init__(self, lr, F, patience, min_lr, max_lr, window, spike, adaptive):
        self.lr = lr
        self.F = F
        self.q = patience
        self.patience = patience
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.smooth = ReferenceStreamingAverage(window) if window else lambda value: value
        self.spike = spike
        self.adaptive = adaptive
        self.H = []
        self.best = math.inf
        self.good = self.bad = self.cool = self.warm = self.records = 0

    def step(self, m):
        with np.errstate(over="ignore", invalid="ignore"):
            return self._step(m)

    def _step(self, m):
        self.H.append(m)
        n = len(self.H)
        if self.spike and n > 5 and m > 2 * np.mean(self.H[-5:]):
            self.bad = max(0, self.bad - 2)
        s = self.smooth(m)
        tau = 1e-6
        if n > 10:
            tau = max(1e-6, 0.1 * float(np.std(self.H[-10:])))
        if s < self.best - tau:
            self.best = s
            self.good += 1
            self.bad = 0
            self.records += 1
        else:
            self.bad += 1
            self.good = 0
        if self.adaptive:
            if self.records > 10:
                self.patience = max(5, self.q // 2)
            elif self.records < 3:
                self.patience = min(30, 2 * self.q)
            else:
                self.patience = self.q
        if n % 50 == 0:
            self.records = 0
        if self.cool > 0:
            self.cool -= 1
            self.bad = 0
        if self.warm > 0:
            self.warm -= 1
            self.good = 0
        if self.bad > self.patience:
            self.lr = max(self.lr * self.F, self.min_lr)
            self.cool = max(3, self.patience // 3)
            self.bad = 0
        if self.good > self.patience:
            self.lr = min(self.lr * (1 / self.F), self.max_lr)
            self.warm = max(3, self.patience // 3)
            self.good = 0
        return self.lr
