"""The method: contestants run alternately, round after round; results are medians, and ratios within a round.

Absolute times drift by half on a shared machine while a benchmark runs; ratios within a round are stable.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from servers import Missing

T = TypeVar("T")
Sample = Mapping[str, float]
"""The metrics of one contestant in one round, by name."""
Contestant = Callable[[], Sample]


@dataclass(frozen=True)
class Rounds:
    """What every contestant did in every round."""

    samples: Mapping[str, list[Sample]]

    def medians(self) -> dict[str, dict[str, float]]:
        """Return the median of each metric of each contestant."""
        return {
            name: {metric: statistics.median(sample[metric] for sample in rounds) for metric in rounds[0]}
            for name, rounds in self.samples.items()
        }

    def ratio(self, of: str, to: str, metric: str, other_metric: str | None = None) -> float | None:
        """Return the median of the ratios within each round; None if one of the two took no part."""
        if of not in self.samples or to not in self.samples:
            return None
        pairs = zip(self.samples[of], self.samples[to], strict=True)
        return statistics.median(one[metric] / other[other_metric or metric] for one, other in pairs)


@dataclass(frozen=True)
class Curve:
    """How metrics depend on something: for the plots."""

    title: str
    x: str
    y: str
    series: Mapping[str, list[tuple[float, float]]]
    log_x: bool = True
    log_y: bool = False


@dataclass(frozen=True)
class Findings:
    """What one case found: metrics of each contestant, and those of the targets' rows that it measures."""

    metrics: Mapping[str, Mapping[str, float]]
    rows: Mapping[str, float | None] = field(default_factory=dict)
    by_cpu: Mapping[str, float | None] = field(default_factory=dict)
    """Rows that compare rates, by CPU time: the same on a quiet machine, and no less true on a busy one."""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """By the name of the plot."""


@dataclass
class Bench:
    """How long to measure, where, and where to report progress."""

    folder: Path
    rounds: int
    seconds: int
    full: bool
    largest: int
    """How many rows there are at most, where growth is measured."""
    tell: Callable[[str], None]
    """Called with what is being done."""
    skipped: list[str] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    """How many cores others kept busy in each window of load."""

    def taking_turns(
        self, what: str, contestants: Mapping[str, Contestant], rounds: int | None = None
    ) -> Rounds:
        """Let each contestant have its turn in each round."""
        samples: dict[str, list[Sample]] = {name: [] for name in contestants}
        rounds = rounds or self.rounds
        for number in range(1, rounds + 1):
            for name, act in contestants.items():
                self.tell(f"{what}, round {number} of {rounds}: {name}")
                samples[name].append(sample := act())
                self.others += [sample["others_cores"]] if "others_cores" in sample else []
        return Rounds(samples)

    def skip(self, what: str, why: Missing) -> None:
        """Note what is not measured, for the end."""
        self.skipped.append(f"{what}: {why} is not installed")

    def unless_missing(self, stack: ExitStack, what: str, opened: AbstractContextManager[T]) -> T | None:
        """Enter a context until the end of the stack; None, and noted, when what it needs is missing."""
        try:
            return stack.enter_context(opened)
        except Missing as why:
            self.skip(what, why)
            return None


@dataclass(frozen=True)
class Case:
    """One subject: what it is called, which rows of the targets it measures, and how."""

    name: str
    rows: tuple[str, ...]
    measure: Callable[[Bench], Findings]
    full_only: bool = False


@contextmanager
def folder_of(bench: Bench, name: str) -> Iterator[Path]:
    """Make a folder for one case."""
    folder = bench.folder / name
    folder.mkdir(mode=0o700)
    yield folder
