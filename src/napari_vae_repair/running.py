"""Generators of steps, run to their end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


def finished(steps: Generator[Step, None, Result], on_step: Callable[[Step], object] | None = None) -> Result:
    """What the steps give back at their end; `on_step` is told each of them."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if on_step is not None:
            on_step(step)
