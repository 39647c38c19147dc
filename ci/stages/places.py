"""Paths in the reports of tests, as the repository has them: CI hosts link files from its root, and tools write paths of the container."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path


def from_root(junit: Path, coverage: Path, *, subject: Path, prefix: str, workdir: str) -> None:
    """Rewrite a JUnit and a Cobertura report, where there is one; what is no file of the subject stays as it is.

    `subject` is its directory on this machine, `prefix` its path from the repository's root (empty, or ending with a slash), and `workdir`
    the directory in the container that stands for it.
    """
    for path, rewrite in ((junit, _junit), (coverage, _cobertura)):
        try:
            tree = ET.parse(path)  # noqa: S314  expat refuses entity bombs by itself since 2.4.1, and reads no external entity
        except (OSError, ET.ParseError):
            continue
        rewrite(tree.getroot(), subject, prefix, workdir)
        tree.write(path, encoding="utf-8", xml_declaration=True)


def _junit(root: ET.Element, subject: Path, prefix: str, _workdir: str) -> None:
    for case in root.iter("testcase"):
        file = case.get("file", "")
        if file and (subject / file).is_file():
            case.set("file", prefix + file)


def _cobertura(root: ET.Element, subject: Path, prefix: str, workdir: str) -> None:
    sources = [Path(source.text or ".") for source in root.iter("source")]
    inside = [source.relative_to(workdir) for source in sources if source.is_relative_to(workdir)]
    for element in root.iter("class"):
        name = element.get("filename", "")
        found = next((place / name for place in inside if (subject / place / name).is_file()), None)
        if found is not None:
            element.set("filename", f"{prefix}{found}")
    listed = root.find("sources")
    if listed is not None:
        listed.clear()
        ET.SubElement(listed, "source").text = "."
