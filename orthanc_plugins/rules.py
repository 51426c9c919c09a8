"""What a rule is: clauses on the facts of a series, preferences among series, what comes first."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Facts = Mapping[str, Any]
"""Of one series, by DICOM keyword: a string, a number, or a list of strings."""


class RuleError(Exception):
    """routing.toml is wrong; the text names the rule and the key, and nothing else."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition on one fact.

    `any_of` and `none_of` are fnmatch patterns, case ignored; an empty pattern means the fact is
    absent or empty. `minimum` and `maximum` bound a number, both inclusive; an absent number holds
    only where `absent` says so.
    """

    fact: str
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    absent: bool = False

    def __str__(self) -> str:
        parts = []
        if self.any_of:
            parts.append("is " + " or ".join(repr(p) for p in self.any_of))
        if self.none_of:
            parts.append("is not " + " nor ".join(repr(p) for p in self.none_of))
        if self.minimum != -math.inf:
            parts.append(f">= {self.minimum:g}")
        if self.maximum != math.inf:
            parts.append(f"<= {self.maximum:g}")
        if self.absent:
            parts.append("or absent")
        return f"{self.fact} {' '.join(parts)}"

    def holds(self, facts: Facts) -> bool:
        """Whether the series satisfies it."""
        told = words(facts.get(self.fact))
        if self.any_of and not matches(told, self.any_of):
            return False
        if self.none_of and matches(told, self.none_of):
            return False
        if self.minimum == -math.inf and self.maximum == math.inf:
            return True
        value = number(told)
        if value is None:
            return self.absent
        return self.minimum <= value <= self.maximum


@dataclass(frozen=True, slots=True)
class Preference:
    """One criterion for choosing among series that match: nearest, matching, most or fewest."""

    fact: str
    near: float | None = None
    match: tuple[str, ...] = ()
    most: bool = True

    def __str__(self) -> str:
        if self.near is not None:
            return f"{self.fact} nearest to {self.near:g}"
        if self.match:
            return f"{self.fact} is " + " or ".join(repr(p) for p in self.match)
        return f"{'most' if self.most else 'fewest'} {self.fact}"

    def cost(self, facts: Facts) -> float:
        """Lower is better."""
        told = words(facts.get(self.fact))
        if self.match:
            return 0.0 if matches(told, self.match) else 1.0
        value = number(told)
        if value is None:
            return math.inf
        if self.near is not None:
            return abs(value - self.near)
        return -value if self.most else value


@dataclass(frozen=True, slots=True)
class Rule:
    """Series that satisfy every clause go to `pipeline`: each of them, or the best of each study.

    With `take_all` all that satisfy are the input of one job. A job of a rule with `after` runs
    once the jobs of those rules on the same study have ended; `refuse_after_failed` refuses it
    where one of them brought no result, else it runs with those that did.
    """

    name: str
    pipeline: str
    queue: str
    when: tuple[Clause, ...]
    one_per_study: bool
    prefer: tuple[Preference, ...]
    settings: dict[str, float | int | str | bool] = field(default_factory=dict)
    take_all: bool = False
    after: tuple[str, ...] = ()
    refuse_after_failed: bool = False

    def in_order(self, matched: Mapping[str, Facts]) -> list[str]:
        """Series that match, the preferred first.

        The id last, so that equal series give the same answer in any order of arrival.
        """
        return sorted(matched, key=lambda s: ([p.cost(matched[s]) for p in self.prefer], s))


@dataclass(frozen=True, slots=True)
class Rules:
    """The content of routing.toml."""

    exclude: tuple[tuple[str, tuple[Clause, ...]], ...]
    rules: tuple[Rule, ...]

    def named(self, name: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def in_order(self) -> tuple[Rule, ...]:
        """Each rule behind those that it comes after.

        Raises
        ------
        RuleError
            When one of those is no rule, or rules wait for each other.
        """
        names = {rule.name for rule in self.rules}
        for rule in self.rules:
            unknown = set(rule.after) - names
            if unknown:
                raise RuleError(f"{rule.name}: after names {min(unknown)}, which is no rule")
        order: list[Rule] = []
        left = list(self.rules)
        while left:
            placed = {rule.name for rule in order}
            ready = [rule for rule in left if placed.issuperset(rule.after)]
            if not ready:
                told = ", ".join(rule.name for rule in left)
                raise RuleError(f"rules wait for each other: {told}")
            order += ready
            left = [rule for rule in left if rule not in ready]
        return tuple(order)


def words(value: object) -> list[str]:
    """The values of a fact; none where it is absent or empty."""
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple)) else str(value).split("\\")
    return [str(word).strip() for word in values if str(word).strip()]


def number(told: Sequence[str]) -> float | None:
    """The first value as a number; None where it is none."""
    try:
        value = float(told[0]) if told else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def matches(told: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether one of the values fits one of the patterns; an absent fact fits an empty one."""
    if not told:
        return "" in patterns
    return any(
        fnmatch.fnmatchcase(word.upper(), pattern.upper())
        for word in told
        for pattern in patterns
        if pattern
    )
