"""For how long a model is adapted: a count of steps, or seconds that become one by the pace of the first few."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

TIMED_STEPS = 3  # whose pace turns seconds into steps
STEPPING_SHARE = 0.85  # of the seconds; the rest is for the comparison


@dataclass(frozen=True, slots=True)
class Budget:
    """For how long a model is adapted.

    Attributes
    ----------
    steps, seconds, stop_at, should_finish, clock
        As of `adapt`.
    """

    steps: int | None
    seconds: float
    stop_at: int | None = None
    should_finish: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.perf_counter

    def steps_at(self, pace: float) -> int:
        """How many steps of so many seconds fit in, at least those that were timed."""
        return max(TIMED_STEPS, int(STEPPING_SHARE * self.seconds / max(pace, 1e-6)))

    def over(self, done: int, in_all: int) -> bool:
        """Whether no step follows."""
        return done >= in_all or done == self.stop_at or (done >= TIMED_STEPS and self.should_finish())
