"""Pieces that pages are made of: the page around them, tables, badges. Everything that is not markup of ours is escaped by who calls."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files


def page_of(title: str, body: str) -> str:
    """Return a page with our style and script; its policy lets nothing else be loaded or run."""
    here = files("ci.report")
    script = here.joinpath("page_script.txt").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = here.joinpath("page.html").read_text(encoding="utf-8")
    for name, value in (("HASH", f"sha256-{digest}"), ("TITLE", escape(title)), ("SCRIPT", script), ("BODY", body)):
        page = page.replace(f"@@{name}@@", value, 1)
    return page


def badge(status: str) -> str:
    """Return a status as a word in its colour."""
    return f'<span class="badge {escape(status)}">{escape(status)}</span>'


def table(label: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; a head that ends with `#` is of a column of numbers. Cells are HTML."""
    kinds = [' class="n"' if head.endswith("#") else "" for head in heads]
    top = "".join(f'<th scope="col"{kind}>{escape(head.rstrip("#"))}</th>' for head, kind in zip(heads, kinds, strict=True))
    body = "".join("<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>" for row in rows)
    inner = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{inner}</div>'
