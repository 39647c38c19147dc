"""The rules that had something to say about a run, with the waivers and approvals that somebody answers for; from its plan.json."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ci.report.parts import table


def policy(plan: Mapping[str, Any]) -> str:
    """Return the section about rules, waivers and approvals; empty when no rule said anything."""
    said = [[f"<strong>{_text(rule, 'policy')}</strong>", _text(rule, "why")] for rule in plan.get("policies") or ()]
    rows = [
        ["waiver", _text(given, "label"), _text(given, "by"), _text(given, "reason") or "no reason given", ""]
        for given in _all(plan, "waivers")
    ]
    rows += [
        ["approval", f"<code>{_text(given, 'commit')[:12]}</code>", _text(given, "by"), _text(given, "why"), _text(given, "when")]
        for given in _all(plan, "approvals")
    ]
    rules = table("Rules that applied", ["rule", "what it said"], said) if said else ""
    given = table("Waivers and approvals", ["kind", "of", "by", "why", "when"], rows) if rows else ""
    return rules + (f"<h3>Who answers for it</h3>{given}" if given else "")


def _all(plan: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [given for given in plan.get(name) or () if isinstance(given, Mapping)]


def _text(data: Mapping[str, Any], name: str) -> str:
    return escape(str(data.get(name) or ""))
