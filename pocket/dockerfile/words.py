"""Variables and quotes in Dockerfile words, as BuildKit's shell lexer treats them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from pocket.errors import PocketError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#]")


class _Lexer:
    """One pass over a text; quotes are removed unless they are kept."""

    def __init__(self, text: str, values: Mapping[str, str], *, quotes: bool, strict: bool) -> None:
        self.text, self.values, self.quotes, self.strict, self.at = text, values, quotes, strict, 0

    def run(self, stop: str = "") -> str:
        """Expand up to an unquoted `stop` character, which is left to be read."""
        out = []
        while self.at < len(self.text):
            c = self.text[self.at]
            if stop and c == stop:
                break
            if c == "'" and self.quotes:
                out.append(self._single())
            elif c == '"' and self.quotes:
                out.append(self._double())
            elif c == "$":
                out.append(self._dollar())
            elif c == "\\" and self.at + 1 < len(self.text):
                self.at += 2
                out.append(self.text[self.at - 1] if self.quotes or self.text[self.at - 1] in "$\\" else self.text[self.at - 2 : self.at])
            else:
                out.append(c)
                self.at += 1
        return "".join(out)

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise PocketError("unexpected end of statement while looking for matching single-quote")
        value = self.text[self.at + 1 : end]
        self.at = end + 1
        return value

    def _double(self) -> str:
        self.at += 1
        out: list[str] = []
        while self.at < len(self.text):
            c = self.text[self.at]
            if c == '"':
                self.at += 1
                return "".join(out)
            if c == "$":
                out.append(self._dollar())
            elif c == "\\" and self.at + 1 < len(self.text) and self.text[self.at + 1] in '"$\\':
                out.append(self.text[self.at + 1])
                self.at += 2
            else:
                out.append(c)
                self.at += 1
        raise PocketError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self.at += 1
        if self.text[self.at : self.at + 1] == "{":
            self.at += 1
            return self._braced()
        name = _NAME.match(self.text, self.at)
        if name is None:
            return "$"
        self.at = name.end()
        return self._known(name[0])

    def _known(self, name: str) -> str:
        value = self.values.get(name)
        if value is None and self.strict:
            raise PocketError(f"{name}: unbound variable")
        return value or ""

    def _braced(self) -> str:
        name = _NAME.match(self.text, self.at)
        if name is None:
            raise PocketError(f"bad substitution in {self.text!r}")
        self.at = name.end()
        operator = re.compile(r":?[-+?]|##?|%%?|//?|").match(self.text, self.at)
        assert operator is not None
        self.at = operator.end()
        word = self.run("/" if operator[0].startswith("/") else "}")
        other = ""
        if operator[0].startswith("/") and self.text[self.at : self.at + 1] == "/":
            self.at += 1
            other = self.run("}")
        if self.text[self.at : self.at + 1] != "}":
            raise PocketError(f"missing }} in {self.text!r}")
        self.at += 1
        if not operator[0]:
            return self._known(name[0])
        return _modified(name[0], self.values.get(name[0]), operator[0], word, other)


def _modified(name: str, value: str | None, operator: str, word: str, other: str) -> str:
    unset = not value if operator.startswith(":") else value is None
    text = value or ""
    match operator.removeprefix(":"):
        case "-":
            return word if unset else text
        case "+":
            return "" if unset else word
        case "?":
            if unset:
                raise PocketError(f"{name}: {word or 'not allowed to be unset'}")
            return text
        case "#" | "##":
            return _without_prefix(text, word, longest=operator == "##")
        case "%" | "%%":
            return _without_prefix(text[::-1], word[::-1], longest=operator == "%%")[::-1]
        case "/" | "//":
            return re.sub(_pattern(word), lambda _: other, text, count=0 if operator == "//" else 1)
    return text


def _pattern(glob: str) -> str:
    return fnmatch.translate(glob).removeprefix("(?s:").removesuffix(")\\Z")


def _without_prefix(text: str, glob: str, *, longest: bool) -> str:
    sizes = range(len(text), -1, -1) if longest else range(len(text) + 1)
    return next((text[n:] for n in sizes if fnmatch.fnmatchcase(text[:n], glob)), text)


def expand(text: str, values: Mapping[str, str], *, quotes: bool = True, strict: bool = False) -> str:
    """Expand variables in a word and remove its quotes (kept when `quotes` is false, as in a here-document).

    Raises:
        PocketError: a quote or brace is not closed, `${VAR:?message}` says so, or with `strict` a variable is not set.
    """
    return _Lexer(text, values, quotes=quotes, strict=strict).run()
