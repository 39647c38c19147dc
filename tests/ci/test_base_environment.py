"""The machine's settings are found where people keep them, and are told to nobody."""

import os
from pathlib import Path

import certifi
import pytest

from ci.base.environment import PLACE, Machine, _files, _plain_variables, _secret_variables, detect, passthrough

OWN_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBprivate0000\n-----END CERTIFICATE-----\n"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}


def test_a_machine_without_settings_passes_nothing_on(home: dict[str, str]) -> None:
    machine = detect(home, system_bundles=())
    assert machine.secret == {}
    assert (machine.ca_bundle, machine.netrc, machine.links) == ("", "", ())
    assert machine.describe() == "nothing"


def test_only_a_certificate_that_the_public_bundle_lacks_counts(home: dict[str, str], tmp_path: Path) -> None:
    assert detect(home, system_bundles=(certifi.where(),)).ca_bundle == ""
    own = tmp_path / "own.pem"
    own.write_text(OWN_CERTIFICATE)
    machine = detect({**home, "SSL_CERT_FILE": str(own)}, system_bundles=())
    assert machine.ca_bundle.count("BEGIN CERTIFICATE") == Path(certifi.where()).read_text().count("BEGIN CERTIFICATE") + 1
    assert "MIIBprivate0000" in machine.ca_bundle
    assert _plain_variables(machine)["PIP_CERT"] == f"{PLACE}/ca.pem"
    assert set(_files(machine)) == {f"{PLACE}/ca.pem"}


def test_pips_files_and_variables_are_merged_in_pips_order(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "pip"
    config.mkdir(parents=True)
    (config / "pip.conf").write_text(
        "[global]\nindex-url = https://user.example/simple\ntimeout = 7\n[install]\nextra_index_url =\n  https://a.example\n  https://b.example\n"
    )
    last = tmp_path / "last.conf"
    last.write_text("[global]\nindex-url = https://last.example/simple\n")
    machine = detect(
        {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(last), "PIP_TIMEOUT": "9", "PIP_TARGET": "/elsewhere"}, system_bundles=()
    )
    assert machine.secret == {"PIP_INDEX_URL": "https://last.example/simple", "PIP_EXTRA_INDEX_URL": "https://a.example https://b.example"}
    assert machine.plain["PIP_TIMEOUT"] == "9"
    assert "PIP_TARGET" not in {**machine.plain, **machine.secret}


def test_broken_and_absent_files_count_as_absent(tmp_path: Path) -> None:
    broken = tmp_path / "broken.conf"
    broken.write_text("index-url outside of any section\n")
    machine = detect({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(broken), "SSL_CERT_FILE": str(tmp_path / "absent")}, system_bundles=())
    assert "PIP_INDEX_URL" not in machine.secret


def test_local_package_directories_are_mounted_and_empty_ones_forgotten(home: dict[str, str], tmp_path: Path) -> None:
    wheels, empty = tmp_path / "wheels", tmp_path / "empty"
    wheels.mkdir()
    empty.mkdir()
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"")
    machine = detect({**home, "PIP_FIND_LINKS": f"{wheels} {empty} {wheels.as_uri()} https://links.example"}, system_bundles=())
    assert machine.links == (wheels, wheels)
    assert _secret_variables(machine)["PIP_FIND_LINKS"] == f"{PLACE}/links/0 {PLACE}/links/1 https://links.example"


def test_nothing_secret_shows_in_words(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine index.example login ana password hunter2")
    machine = detect(
        {**home, "https_proxy": "http://ana:hunter2@proxy.example", "UV_INDEX_URL": "https://index.example"}, system_bundles=()
    )
    assert machine.describe() == "proxies, package index"
    assert _plain_variables(machine)["NETRC"] == f"{PLACE}/netrc"
    for word in ("ana", "hunter2", "example"):
        assert word not in repr(machine)
        assert word not in machine.describe()
        assert word not in repr(_plain_variables(machine))


def test_find_links_without_directories_stay_secret() -> None:
    assert _secret_variables(Machine(secret={"PIP_FIND_LINKS": "https://links.example"})) == {"PIP_FIND_LINKS": "https://links.example"}


def test_what_is_passed_on_is_told_without_credentials() -> None:
    """Names, hosts and counts; of a value with a user in it the host alone."""
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    machine = Machine(
        secret={
            "https_proxy": "http://me:hunter2@proxy.example:8080",
            "no_proxy": "localhost,10.0.0.1",
            "PIP_INDEX_URL": "https://[broken",
        },
        plain={"PIP_NO_INPUT": "1", "PIP_TIMEOUT": "60"},
        ca_bundle=pem,
        netrc="machine x login me password hunter2",
        links=(Path("/somewhere/private"),),
    )
    told = {one.name: one.shown for one in passthrough(machine)}
    assert told == {
        "https_proxy": "proxy.example with credentials",
        "no_proxy": "localhost, 10.0.0.1",
        "PIP_INDEX_URL": "(not shown)",
        "PIP_TIMEOUT": "60",
        "CA bundle": "1 certificates",
        "netrc": "a file with credentials",
        "find-links": "a directory of this machine",
    }
    assert passthrough(Machine()) == ()
