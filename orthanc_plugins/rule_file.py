"""Reads routing.toml and checks it; whatever is wrong in it is told by rule and key."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from orthanc_plugins.rules import Clause, Preference, Rule, RuleError, Rules

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
