"""What a run says in the end: figures against their targets, and the tables behind them."""

import datetime
from collections.abc import Iterable
from typing import NamedTuple

INTRODUCTION = """\
Written by the full run, `make bench`; `.venv/bin/python -m bench PART...` measures single parts and writes nothing.
Every program ran on one core, the backend and the load on another. Programs took turns within one run, in short
rounds, and a ratio is the median of the ratios of the rounds. CPU is that of all processes of a program: for Ostiary
supervisor, control and worker. Latency counts from the moment a request was due (open loop)."""


class Figure(NamedTuple):
    """One line of the result. `value` None: not measured, `note` says why. `target` None: shown only."""

    name: str
    value: float | None
    target: float | None
    meaning: str
    note: str = ""
    at_least: bool = False
    """More is better: the target is the least."""

    def line(self) -> str:
        """`name ratio target`."""
        return f"{self.name} {self.shown()} {'-' if self.target is None else f'{self.target:g}'}"

    def shown(self) -> str:
        """The value, or that there is none."""
        return "absent" if self.value is None else f"{self.value:.4g}"

    def verdict(self) -> str:
        """Whether it is met."""
        if self.value is None:
            return self.note
        if self.target is None:
            return ""
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return "met" if met else "**missed**"

    def aim(self) -> str:
        """The target in words."""
        return "" if self.target is None else f"{'at least' if self.at_least else 'at most'} {self.target:g}"


class Outcome(NamedTuple):
    """What a part found."""

    title: str
    figures: list[Figure]
    columns: list[str]
    rows: list[list[str]]
    notes: str = ""


def failed(part: str, reason: str) -> Outcome:
    """The outcome of a part that could not be measured."""
    return Outcome(part, [Figure(f"{part}_failed", None, None, reason, "failed")], [], [], reason)


def lines(outcomes: Iterable[Outcome]) -> list[str]:
    """The last lines of the output."""
    return [figure.line() for outcome in outcomes for figure in outcome.figures]


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown, nothing where there are no columns."""
    if not columns:
        return []
    every = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(row)} |" for row in every]


def document(outcomes: list[Outcome], about: dict[str, str]) -> str:
    """bench/RESULTS.md: the ratios in one table, then what each part saw."""
    figures = [figure for outcome in outcomes for figure in outcome.figures]
    ratios = [[figure.name, figure.shown(), figure.aim(), figure.verdict(), figure.meaning] for figure in figures]
    parts = [
        "\n".join([f"## {each.title}", "", *table(each.columns, each.rows), *(["", each.notes] if each.notes else [])])
        for each in outcomes
    ]
    return (
        "\n\n".join(
            [
                "# Results of `make bench`",
                INTRODUCTION,
                "\n".join(table(["", ""], [[f"**{name}**", text] for name, text in about.items()])),
                "\n".join(table(["figure", "value", "target", "", "what it is"], ratios)),
                *parts,
            ]
        )
        + "\n"
    )


def today() -> str:
    """The date, in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
