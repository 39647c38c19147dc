"""What steps may see of the machine while they run: its CA certificates, proxies and package-index settings.

Steps that download need them; images, records, logs and cache keys must not hold them. So nothing here becomes an environment variable or a
file of a container: variables are secret (scrubbed from what the step prints; their values are in no key) or volatile (neither in keys nor
in images), files are mounted secrets, and `detached` takes all of it away again. Settings are taken by name from a closed list:
`PIP_TARGET` or `PIP_USER` would change what a step does, not how it downloads. Limits: uv's configuration files, keyrings, client
certificates and index directories (`file:` as index-url) are not passed on.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import dagger

PLACE = "/run/weighbridge"
_OURS = ("PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_INPUT")
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
# Option of pip → whether its value tells something of the machine.
_PIP_OPTIONS = {
    "index-url": True,
    "extra-index-url": True,
    "trusted-host": True,
    "proxy": True,
    "no-index": False,
    "timeout": False,
    "default-timeout": False,
    "retries": False,
    "prefer-binary": False,
    "only-binary": False,
    "no-binary": False,
}
_UV_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s(.+?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The settings that were found; `repr` shows names only, because it may end up in a log."""

    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables whose values nobody shall see."""
    plain: Mapping[str, str] = field(default_factory=dict)
    """Variables that tell nothing of the machine: timeouts, switches."""
    ca_bundle: str = field(default="", repr=False)
    """Public certificates and the machine's own, PEM; empty when the machine has none of its own."""
    netrc: str = field(default="", repr=False)
    links: tuple[Path, ...] = field(default=(), repr=False)
    """Local directories with packages (find-links); their content is an input of the step like any other file."""

    def describe(self) -> str:
        """Name what is passed on, without any value."""
        names = []
        if self.ca_bundle:
            names.append("CA bundle")
        if any(name.lower() in _PROXIES or name == "PIP_PROXY" for name in self.secret):
            names.append("proxies")
        if any("INDEX" in name for name in self.secret) or self.links or self.netrc:
            names.append("package index")
        return ", ".join(names) or "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One setting of the machine that steps get."""

    name: str
    """The variable, or what the file is."""
    shown: str
    """What may be told of its value: a host at most, never credentials."""
    steps: str = "the steps of build and test that install requirements"
    """Which steps get it."""


def passthrough(machine: Machine | None = None) -> tuple[Passed, ...]:
    """Return what steps get of this machine; what is not set is not named."""
    machine = detect() if machine is None else machine
    found = [Passed(name=name, shown=_told(value)) for name, value in sorted(machine.secret.items())]
    found += [Passed(name=name, shown=value) for name, value in sorted(machine.plain.items()) if name not in _OURS]
    if machine.ca_bundle:
        found.append(Passed(name="CA bundle", shown=f"{len(_CERTIFICATE.findall(machine.ca_bundle))} certificates"))
    if machine.netrc:
        found.append(Passed(name="netrc", shown="a file with credentials"))
    return (*found, *(Passed(name="find-links", shown="a directory of this machine") for _ in machine.links))


def _told(value: str) -> str:
    """Return the hosts of a value; what is no plain address is not told."""
    told = []
    for part in value.replace(",", " ").split():
        try:
            split = urlsplit(part if "//" in part else f"//{part}")
            credentials = " with credentials" if split.username or split.password else ""
            told.append(f"{split.hostname or '(not shown)'}{credentials}")
        except ValueError:
            told.append("(not shown)")
    return ", ".join(told)


def detect(environ: Mapping[str, str] | None = None, *, system_bundles: tuple[str, ...] = _SYSTEM_BUNDLES) -> Machine:
    """Collect the settings of this process's user and machine; unreadable files count as absent."""
    env = dict(os.environ if environ is None else environ)
    options = _pip_options(env)
    secret = {name: value for name in env if name.lower() in _PROXIES and (value := env[name])}
    secret.update({name: env[name] for name in _UV_VARIABLES if env.get(name)})
    plain = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    for option, private in _PIP_OPTIONS.items():
        if option in options:
            (secret if private else plain)["PIP_" + option.upper().replace("-", "_")] = options[option]
    links, remote = _find_links(options.get("find-links", ""))
    if remote:
        secret["PIP_FIND_LINKS"] = " ".join(remote)
    bundles = [options.get("cert", ""), *(env.get(name, "") for name in _CA_VARIABLES), *system_bundles]
    netrc = Path(env.get("NETRC") or Path(env.get("HOME", "/"), ".netrc"))
    return Machine(secret=secret, plain=plain, ca_bundle=_bundle(bundles), netrc=_read(netrc), links=links)


def attached(dag: dagger.Client, machine: Machine) -> Callable[[dagger.Container], dagger.Container]:
    """Return what `Container.with_` needs to let the following steps see the machine's settings."""

    def attach(container: dagger.Container) -> dagger.Container:
        for name, value in _plain_variables(machine).items():
            container = container.with_volatile_variable(name, value)
        for name, value in _secret_variables(machine).items():
            container = container.with_secret_variable(name, dag.set_secret(f"weighbridge/{name}", value))
        for path, content in _files(machine).items():
            container = container.with_mounted_secret(path, dag.set_secret(f"weighbridge{path}", content), mode=0o444)
        for number, directory in enumerate(machine.links):
            container = container.with_mounted_directory(
                f"{PLACE}/links/{number}", dag.host().directory(str(directory), include=PACKAGES), read_only=True
            )
        return container

    return attach


def detached(machine: Machine) -> Callable[[dagger.Container], dagger.Container]:
    """Return what `Container.with_` needs to take all of it away again before anything of the container is kept."""

    def detach(container: dagger.Container) -> dagger.Container:
        for name in _plain_variables(machine):
            container = container.without_volatile_variable(name)
        for name in _secret_variables(machine):
            container = container.without_secret_variable(name)
        for path in (*_files(machine), *(f"{PLACE}/links/{number}" for number in range(len(machine.links)))):
            container = container.without_mount(path)
        return container

    return detach


PACKAGES = ["*.whl", "*.tar.gz", "*.zip"]


def _plain_variables(machine: Machine) -> dict[str, str]:
    variables = dict(machine.plain)
    if machine.ca_bundle:
        variables.update(dict.fromkeys(_CA_VARIABLES, f"{PLACE}/ca.pem"))
    if machine.netrc:
        variables["NETRC"] = f"{PLACE}/netrc"
    return variables


def _secret_variables(machine: Machine) -> dict[str, str]:
    variables = dict(machine.secret)
    if machine.links:
        local = [f"{PLACE}/links/{number}" for number in range(len(machine.links))]
        variables["PIP_FIND_LINKS"] = " ".join([*local, *filter(None, [variables.get("PIP_FIND_LINKS", "")])])
    return variables


def _files(machine: Machine) -> dict[str, str]:
    return {path: content for path, content in ((f"{PLACE}/ca.pem", machine.ca_bundle), (f"{PLACE}/netrc", machine.netrc)) if content}


def _pip_options(env: Mapping[str, str]) -> dict[str, str]:
    """Merge pip's configuration files and variables in pip's own order of precedence."""
    options: dict[str, str] = {}
    for path in _pip_files(env):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                options.update({name.lower().replace("_", "-"): " ".join(value.split()) for name, value in parser.items(section) if value})
    for name, value in env.items():
        if name.startswith("PIP_") and value:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return options


def _pip_files(env: Mapping[str, str]) -> Iterator[Path]:
    own = env.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return
    home = Path(env.get("HOME", "/"))
    for directory in reversed(env.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)):
        yield Path(directory, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(env.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    yield Path(sys.prefix, "pip.conf")
    if own:
        yield Path(own)


def _find_links(value: str) -> tuple[tuple[Path, ...], list[str]]:
    local, remote = [], []
    for link in value.split():
        parts = urlsplit(link)
        if parts.scheme in {"http", "https"}:
            remote.append(link)
        else:
            path = Path(unquote(parts.path) if parts.scheme == "file" else link).expanduser()
            if path.is_dir() and any(any(path.glob(pattern)) for pattern in PACKAGES):
                local.append(path.resolve())
    return tuple(local), remote


def _bundle(paths: list[str]) -> str:
    import certifi

    public = Path(certifi.where()).read_text(encoding="utf-8")
    known = {_body(found) for found in _CERTIFICATE.finditer(public)}
    own: dict[str, str] = {}
    for path in paths:
        for found in _CERTIFICATE.finditer(_read(Path(path)) if path else ""):
            if _body(found) not in known:
                own.setdefault(_body(found), found.group(0))
    if not own:
        return ""
    return "\n".join([*(found.group(0) for found in _CERTIFICATE.finditer(public)), *own.values()]) + "\n"


def _body(certificate: re.Match[str]) -> str:
    return "".join(certificate.group(1).split())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
