import xml.etree.ElementTree as ET
from pathlib import Path

from ci.stages.places import from_root

JUNIT = (
    '<testsuites><testsuite><testcase name="a" file="tests/test_a.py"/><testcase name="b" file="/usr/lib/x.py"/></testsuite></testsuites>'
)
COBERTURA = """<coverage><sources><source>/app/src/model</source><source>/elsewhere</source></sources><packages><package><classes>
<class filename="server.py"/><class filename="gone.py"/></classes></package></packages></coverage>"""


def test_reports_name_files_as_the_repository_has_them(tmp_path: Path) -> None:
    """And leave alone what is no file of it."""
    subject = tmp_path / "examples" / "model"
    for name in ("tests/test_a.py", "src/model/server.py"):
        (subject / name).parent.mkdir(parents=True, exist_ok=True)
        (subject / name).touch()
    junit, coverage = tmp_path / "junit.xml", tmp_path / "coverage.xml"
    junit.write_text(JUNIT)
    coverage.write_text(COBERTURA)
    from_root(junit, coverage, subject=subject, prefix="examples/model/", workdir="/app")
    assert [case.get("file") for case in ET.parse(junit).iter("testcase")] == ["examples/model/tests/test_a.py", "/usr/lib/x.py"]
    assert [one.get("filename") for one in ET.parse(coverage).iter("class")] == ["examples/model/src/model/server.py", "gone.py"]
    assert [source.text for source in ET.parse(coverage).iter("source")] == ["."]


def test_a_report_that_is_missing_or_broken_stays_so(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text("<broken")
    from_root(tmp_path / "junit.xml", tmp_path / "none.xml", subject=tmp_path, prefix="", workdir="/app")
    assert (tmp_path / "junit.xml").read_text() == "<broken"
    assert not (tmp_path / "none.xml").exists()
