"""Which pipeline a series goes to: rules as data, and for every clause whether it held."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orthanc_plugins.rule_file import read_rules
from orthanc_plugins.rules import Facts, Rule, RuleError, Rules, words

# Objects that are made from images, by us or by others; no rule may ever see them as input.
RESULT_MODALITIES: Final = frozenset(
    {"SEG", "SR", "KO", "PR", "RTSTRUCT", "REG", "DOC", "AU", "ANN", "M3D", "PLAN", "FID", "RWV"}
)
PARAMETRIC_MAP: Final = "1.2.840.10008.5.1.4.1.1.30"


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


def is_result(facts: Facts) -> bool:
    """Whether a series is somebody's result rather than an image to analyse."""
    modality = words(facts.get("Modality"))
    sop_class = words(facts.get("SOPClassUID"))
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
