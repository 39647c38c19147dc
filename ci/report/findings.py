"""What the scan of a run found, on its page: what counts, what a reviewed file accepts, and what was not looked at; from its scan.json."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ci.report.parts import table

_SHOWN = 200


def findings(document: Mapping[str, Any]) -> str:
    """Return the section; empty when the run has no scan."""
    if not document:
        return ""
    found, accepted = _all(document, "found"), _all(document, "accepted")
    counts = document.get("counts") if isinstance(document.get("counts"), Mapping) else {}
    looked = ", ".join(f"{number} {escape(str(what))}" for what, number in (counts or {}).items())
    notes = "".join(f"<li>not checked: {escape(str(note))}</li>" for note in document.get("notes") or ())
    notes += "".join(f"<li>in the baseline, and matches nothing: {escape(str(entry))}</li>" for entry in document.get("unused") or ())
    parts = [f'<p class="soft">Looked at {looked}.</p>' if looked else "", f"<ul>{notes}</ul>" if notes else ""]
    parts.append(_table("Findings", found) if found else "<p>Nothing found.</p>")
    if accepted:
        parts.append(
            f"<details><summary>{len(accepted)} accepted by the baseline</summary>{_table('Accepted findings', accepted)}</details>"
        )
    return "".join(parts)


def _table(label: str, found: list[Mapping[str, Any]]) -> str:
    rows = [[_text(one, "severity"), f"<code>{_place(one)}</code>", _text(one, "rule"), _text(one, "message")] for one in found[:_SHOWN]]
    more = f'<p class="soft">and {len(found) - _SHOWN} more</p>' if len(found) > _SHOWN else ""
    return table(label, ["severity", "place", "rule", "what"], rows) + more


def _place(one: Mapping[str, Any]) -> str:
    return f"{_text(one, 'file')}:{one['line']}" if one.get("line") else _text(one, "file")


def _all(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [one for one in document.get(name) or () if isinstance(one, Mapping)]


def _text(one: Mapping[str, Any], name: str) -> str:
    return escape(str(one.get(name) or ""))
