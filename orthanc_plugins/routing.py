"""Which pipeline a series goes to: rules as data, and for every clause whether it held."""

from __future__ import annotations

import fnmatch
import json
import math
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# Objects that are made from images, by us or by others; no rule may ever see them as input.
RESULT_MODALITIES: Final = frozenset(
    {"SEG", "SR", "KO", "PR", "RTSTRUCT", "REG", "DOC", "AU", "ANN", "M3D", "PLAN", "FID", "RWV"}
)
PARAMETRIC_MAP: Final = "1.2.840.10008.5.1.4.1.1.30"
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
"""What the job message allows, too: `tests/wire/job.json`."""
_RULE_KEYS: Final = frozenset(
    {"name", "pipeline", "queue", "when", "select", "settings", "after", "after_failed"}
)
_EXCLUDE_KEYS: Final = frozenset({"name", "when"})
_TEST_KEYS: Final = frozenset({"any", "none", "min", "max", "absent"})
_PREFER_KEYS: Final = frozenset({"fact", "near", "match", "order"})

MOST_AFTER: Final = 32
"""Rules that one may come after: a panel has a handful of experts."""

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
        words = _words(facts.get(self.fact))
        if self.any_of and not _matches(words, self.any_of):
            return False
        if self.none_of and _matches(words, self.none_of):
            return False
        if self.minimum == -math.inf and self.maximum == math.inf:
            return True
        number = _number(words)
        if number is None:
            return self.absent
        return self.minimum <= number <= self.maximum


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
        words = _words(facts.get(self.fact))
        if self.match:
            return 0.0 if _matches(words, self.match) else 1.0
        number = _number(words)
        if number is None:
            return math.inf
        if self.near is not None:
            return abs(number - self.near)
        return -number if self.most else number


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says of one series, and why."""

    rule: str
    matched: bool
    selected: bool
    why: str
    clauses: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Of one series: what ruled it out before any rule, else the verdict of every rule."""

    excluded_by: str
    verdicts: tuple[Verdict, ...]

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the rules that take this series."""
        return tuple(v.rule for v in self.verdicts if v.selected)


def read_rules(path: Path) -> Rules:
    """Read and check routing.toml.

    Raises
    ------
    RuleError
        When it is not TOML or a key is unknown, missing or of the wrong kind.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise RuleError("routing file cannot be read") from error
    if table.get("version") != 1 or table.keys() - {"version", "exclude", "rule"}:
        raise RuleError("routing file: version = 1, [[exclude]] and [[rule]] are all it may hold")
    exclude = tuple(_exclusion(entry) for entry in _tables(table, "exclude"))
    rules = tuple(_rule(entry) for entry in _tables(table, "rule"))
    if len({rule.name for rule in rules}) != len(rules):
        raise RuleError("two rules have the same name")
    read = Rules(exclude, rules)
    read.in_order()
    return read


def is_result(facts: Facts) -> bool:
    """Whether a series is somebody's result rather than an image to analyse."""
    modality = _words(facts.get("Modality"))
    sop_class = _words(facts.get("SOPClassUID"))
    return bool(RESULT_MODALITIES.intersection(w.upper() for w in modality)) or (
        PARAMETRIC_MAP in sop_class
    )


def decide(rules: Rules, study: Mapping[str, Facts]) -> dict[str, Decision]:
    """The decision for every series of a study, by series id.

    Results and excluded series (quality assurance, phantoms) are ruled out first and never count
    as candidates of a rule.
    """
    excluded = {series: _excluded_by(rules, facts) for series, facts in study.items()}
    open_series = {series: facts for series, facts in study.items() if not excluded[series]}
    verdicts: dict[str, dict[str, Verdict]] = {series: {} for series in study}
    taken: set[str] = set()
    for rule in rules.in_order():
        clauses = {
            series: tuple((str(clause), clause.holds(facts)) for clause in rule.when)
            for series, facts in study.items()
        }
        matched = {s: f for s, f in open_series.items() if all(held for _, held in clauses[s])}
        selected = _selected(rule, matched, taken)
        if selected:
            taken.add(rule.name)
        for series in study:
            verdicts[series][rule.name] = Verdict(
                rule=rule.name,
                matched=series in matched,
                selected=series in selected,
                why=_why(rule, series, selected, study, excluded[series], clauses[series]),
                clauses=clauses[series],
            )
    return {
        series: Decision(
            excluded[series], tuple(verdicts[series][rule.name] for rule in rules.rules)
        )
        for series in study
    }


def taken_by(
    rule: Rule, study: Mapping[str, Facts], decisions: Mapping[str, Decision]
) -> list[str]:
    """The series that a rule takes, the preferred first."""
    return rule.in_order({s: study[s] for s in decisions if rule.name in decisions[s].chosen})


def _excluded_by(rules: Rules, facts: Facts) -> str:
    if is_result(facts):
        return "result"
    for name, clauses in rules.exclude:
        if all(clause.holds(facts) for clause in clauses):
            return name
    return ""


def _selected(rule: Rule, matched: Mapping[str, Facts], taken: set[str]) -> list[str]:
    if rule.after and not taken.intersection(rule.after):
        return []
    found = rule.in_order(matched)
    return found[:1] if rule.one_per_study and not rule.take_all else found


def _why(
    rule: Rule,
    series: str,
    selected: Sequence[str],
    study: Mapping[str, Facts],
    excluded_by: str,
    clauses: tuple[tuple[str, bool], ...],
) -> str:
    if excluded_by:
        return f"ruled out: {excluded_by}"
    failed = [text for text, held in clauses if not held]
    if failed:
        return "not so: " + "; ".join(failed)
    if not selected:
        return "no rule that it comes after took a series: " + ", ".join(rule.after)
    if series in selected:
        return "every clause holds" + _share(rule, len(selected))
    for preference in rule.prefer:
        if preference.cost(study[series]) > preference.cost(study[selected[0]]):
            return f"another series of the study is preferred: {preference}"
    return "another, equal series of the study was taken"


def _share(rule: Rule, count: int) -> str:
    if rule.take_all:
        return f"; one job of {count} series"
    return "; the best of its study" if rule.one_per_study else ""


def _words(value: object) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple)) else str(value).split("\\")
    return [str(word).strip() for word in values if str(word).strip()]


def _number(words: Sequence[str]) -> float | None:
    try:
        number = float(words[0]) if words else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _matches(words: Sequence[str], patterns: Sequence[str]) -> bool:
    if not words:
        return "" in patterns
    return any(
        fnmatch.fnmatchcase(word.upper(), pattern.upper())
        for word in words
        for pattern in patterns
        if pattern
    )


def _tables(table: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries = table.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RuleError(f"routing file: {name} is a list of tables, [[{name}]]")
    return entries


def _exclusion(entry: Mapping[str, Any]) -> tuple[str, tuple[Clause, ...]]:
    name = _name(entry, "an exclude")
    _only(entry, _EXCLUDE_KEYS, name)
    return name, _clauses(entry, name)


def _rule(entry: Mapping[str, Any]) -> Rule:
    name = _name(entry, "a rule")
    _only(entry, _RULE_KEYS, name)
    select = entry.get("select", {"per": "series"})
    settings = entry.get("settings", {})
    if not isinstance(select, dict) or not isinstance(settings, dict):
        raise RuleError(f"{name}: select and settings are tables")
    if not isinstance(select.get("prefer", []), list):
        raise RuleError(f"{name}: prefer is a list")
    _only(select, frozenset({"per", "take", "prefer"}), name)
    if select.get("per") not in ("series", "study"):
        raise RuleError(f"{name}: select.per is 'series' or 'study'")
    if select.get("take", "best") not in ("best", "all"):
        raise RuleError(f"{name}: select.take is 'best' or 'all'")
    if "take" in select and select["per"] != "study":
        raise RuleError(f"{name}: select.take needs select.per = 'study'")
    if not all(isinstance(value, (int, float, str, bool)) for value in settings.values()):
        raise RuleError(f"{name}: settings are plain values")
    for key in ("name", "pipeline", "queue"):
        if not isinstance(entry.get(key), str) or not _NAME.match(entry[key]):
            raise RuleError(f"{name}: {key} is lower-case letters, digits, dashes")
    after = _patterns(entry.get("after", []), name, "after")
    if len(after) > MOST_AFTER or len(set(after)) != len(after):
        raise RuleError(f"{name}: after names at most {MOST_AFTER} rules, each once")
    if entry.get("after_failed", "run") not in ("run", "refuse"):
        raise RuleError(f"{name}: after_failed is 'run' or 'refuse'")
    if "after_failed" in entry and not after:
        raise RuleError(f"{name}: after_failed needs after")
    return Rule(
        name=name,
        pipeline=entry["pipeline"],
        queue=entry["queue"],
        when=_clauses(entry, name),
        one_per_study=select["per"] == "study",
        prefer=tuple(_preference(item, name) for item in select.get("prefer", [])),
        settings=dict(settings),
        take_all=select.get("take") == "all",
        after=after,
        refuse_after_failed=entry.get("after_failed") == "refuse",
    )


def _name(entry: Mapping[str, Any], kind: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise RuleError(f"{kind} needs a name of letters, digits and dashes")
    return name


def _only(entry: Mapping[str, Any], allowed: frozenset[str], name: str) -> None:
    unknown = entry.keys() - allowed
    if unknown:
        raise RuleError(f"{name}: unknown key {min(unknown)}")


def _clauses(entry: Mapping[str, Any], name: str) -> tuple[Clause, ...]:
    when = entry.get("when")
    if not isinstance(when, dict) or not when:
        raise RuleError(f"{name}: [when] needs at least one clause")
    return tuple(_clause(fact, test, name) for fact, test in when.items())


def _clause(fact: str, test: Any, name: str) -> Clause:
    if isinstance(test, str):
        return Clause(fact, any_of=(test,))
    if isinstance(test, list):
        return Clause(fact, any_of=_patterns(test, name, fact))
    if not isinstance(test, dict) or not test or test.keys() - _TEST_KEYS:
        raise RuleError(f"{name}: {fact} is a pattern, a list of them, or any/none/min/max/absent")
    bounds = (test.get("min", -math.inf), test.get("max", math.inf))
    if not all(_is_number(bound) for bound in bounds):
        raise RuleError(f"{name}: {fact}: min and max are numbers")
    return Clause(
        fact,
        any_of=_patterns(test.get("any", []), name, fact),
        none_of=_patterns(test.get("none", []), name, fact),
        minimum=float(bounds[0]),
        maximum=float(bounds[1]),
        absent=bool(test.get("absent", False)),
    )


def _is_number(value: Any) -> bool:
    # Beyond that a whole number is no float any more.
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 1000)


def _patterns(value: Any, name: str, fact: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise RuleError(f"{name}: {fact}: patterns are strings")
    return tuple(values)


def _preference(item: Any, name: str) -> Preference:
    if not isinstance(item, dict) or not isinstance(item.get("fact"), str):
        raise RuleError(f"{name}: each preference names a fact")
    _only(item, _PREFER_KEYS, name)
    if len(item) != 2 or item.get("order", "most") not in ("most", "fewest"):
        raise RuleError(f"{name}: a preference is near, match, or order = most or fewest")
    near = item.get("near")
    if near is not None and not _is_number(near):
        raise RuleError(f"{name}: near is a number")
    return Preference(
        fact=item["fact"],
        near=None if near is None else float(near),
        match=_patterns(item.get("match", []), name, item["fact"]),
        most=item.get("order", "most") == "most",
    )


def _explain(rules: Rules, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer of the dry run; facts go in, only names, clauses and truth values come out."""
    groups: dict[str, dict[str, Facts]] = {}
    for series in request["series"]:
        groups.setdefault(str(series.get("study", "")), {})[series["id"]] = series["facts"]
    decisions = {s: d for study in groups.values() for s, d in decide(rules, study).items()}
    return {
        "series": [
            {
                "id": series["id"],
                "chosen": list(decisions[series["id"]].chosen),
                "excluded_by": decisions[series["id"]].excluded_by or None,
                "rules": [
                    {
                        "rule": verdict.rule,
                        "matched": verdict.matched,
                        "selected": verdict.selected,
                        "why": verdict.why,
                        "clauses": [{"clause": c, "held": h} for c, h in verdict.clauses],
                    }
                    for verdict in decisions[series["id"]].verdicts
                ],
            }
            for series in request["series"]
        ]
    }


def main(arguments: Sequence[str]) -> int:
    """`python -m orthanc_plugins.routing check|explain --rules FILE`; facts as JSON on stdin."""
    if len(arguments) != 3 or arguments[0] not in ("check", "explain") or arguments[1] != "--rules":
        sys.stderr.write("usage: check|explain --rules FILE\n")
        return 2
    try:
        rules = read_rules(Path(arguments[2]))
    except RuleError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if arguments[0] == "explain":
        json.dump(_explain(rules, json.load(sys.stdin)), sys.stdout)
    else:
        json.dump(
            {
                rule.name: {"pipeline": rule.pipeline, "queue": rule.queue, "after": rule.after}
                for rule in rules.rules
            },
            sys.stdout,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
