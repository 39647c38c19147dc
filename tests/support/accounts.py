"""People who run the pipeline: root, and an ordinary user without subordinate uids, each with a home, a Python and checkouts of their own.

As root, both exist, and the ordinary one is `nobody`; otherwise there is only whoever runs the tests. Nothing here is a stand-in:
processes run under the real ids, in a clean clone, with a cache that was empty when the session began.
"""

import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BRANCH = "main"
SYSTEM_PYTHON = "/usr/bin/python3"
PASSED_ON = ("LANG", "LC_", "PIP_", "UV_", "SSL_", "REQUESTS_CA", "CURL_CA", "HTTP", "http", "NO_PROXY", "no_proxy", "TZ")


def names() -> list[str]:
    """Name the accounts that this process can act as."""
    return ["root", "nobody"] if os.geteuid() == 0 else [pwd.getpwuid(os.geteuid()).pw_name]


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished command: exit code and what it said, both streams in order."""

    code: int
    output: str


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the machine with everything the pipeline needs of them."""

    name: str
    home: Path
    python: str
    entry: pwd.struct_passwd | None = None  # for a user whom the machine does not know
    become: tuple[str, ...] = ()  # the command that runs another one as this user, where that takes more than an id

    @property
    def other(self) -> pwd.struct_passwd | None:
        """Give the user to become, when it is not the one who runs the tests."""
        entry = self.entry or pwd.getpwnam(self.name)
        return None if entry.pw_uid == os.geteuid() else entry

    @property
    def ids(self) -> dict[str, Any]:
        """Give the options of a process that is this user."""
        other = None if self.become else self.other
        return {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []} if other else {}

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Give what this person's shell would hold: no CI host, no engine, no cache but their own."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        if self.other:
            kept.pop("PIP_CACHE_DIR", None)
        elif "COVERAGE_PROCESS_CONFIG" in os.environ:
            kept["COVERAGE_PROCESS_CONFIG"] = os.environ["COVERAGE_PROCESS_CONFIG"]
        path = f"{Path(self.python).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {**kept, "HOME": str(self.home), "USER": self.name, "PATH": path, "WEIGHBRIDGE_CACHE": str(self.cache), **(extra or {})}

    @property
    def cache(self) -> Path:
        """Give the one warm cache of this person."""
        return self.home / "cache"

    def start(self, *command: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command as this person, in a session of its own, both streams in one pipe."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited from a shell's `&`; a person's terminal has it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            (*self.become, *command),
            cwd=cwd,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **self.ids,
        )

    def run(self, *command: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 900) -> Finished:
        """Run a command to its end; past `timeout` seconds kill everything that it started and fail with what it said."""
        process = self.start(*command, cwd=cwd, env=env)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"{' '.join(command)} took more than {timeout} s:\n{output}") from None
        return Finished(process.returncode, output)

    def own(self, path: Path) -> Path:
        """Hand a tree over to this person."""
        if other := self.other:
            for name in (path, *path.rglob("*")):
                os.chown(name, other.pw_uid, other.pw_gid, follow_symlinks=False)
        return path

    def directory(self, name: str) -> Path:
        """Make a new directory of this person's."""
        path = self.home / name
        path.mkdir(parents=True)
        return self.own(path)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A working tree of the repository in which an account works."""

    account: Account
    root: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> Path:
        """Give the model repository that the pipeline takes from commit to image."""
        return self.root / "examples" / "digits_vlm"

    def ci(self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 900) -> Finished:
        """Run `python -m ci` with these arguments."""
        return self.account.run(
            self.account.python, "-m", "ci", *arguments, cwd=self.root, env={**self.env, **(env or {})}, timeout=timeout
        )

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `python -m ci` with these arguments."""
        return self.account.start(self.account.python, "-m", "ci", *arguments, cwd=self.root, env={**self.env, **(env or {})})

    def runs(self) -> set[str]:
        """Name the runs that there are."""
        return {path.parent.name for path in (self.root / ".weighbridge" / "runs").glob("2*/run.json")}

    @property
    def latest(self) -> Path:
        """Give the directory of the newest run."""
        return (self.root / ".weighbridge" / "runs" / "latest").resolve()

    def record(self) -> dict[str, Any]:
        """Read the newest run record."""
        loaded: dict[str, Any] = json.loads((self.latest / "run.json").read_text())
        return loaded

    def outcomes(self) -> dict[str, str]:
        """Say for each stage of the newest run how it ended: passed, reused, failed …"""
        return {stage["name"]: stage["status"] for stage in self.record()["stages"]}

    def ran(self) -> set[str]:
        """Name the stages of the newest run that did work."""
        return {name for name, status in self.outcomes().items() if status == "passed"}

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace one text in one file; the text must be there exactly once."""
        path = self.root / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} holds {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new))

    def edit_weights(self, change: Callable[[bytearray], None]) -> None:
        """Change the numbers of the weights file, not its header, and its digest in the lock as the owner would."""
        (weights,) = (self.subject / "weights").glob("*.safetensors")
        data = weights.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        tensors = bytearray(data[start:])
        change(tensors)
        changed = data[:start] + bytes(tensors)
        weights.write_bytes(changed)
        before, after = (hashlib.sha256(content).hexdigest() for content in (data, changed))
        lock = self.subject / "model.lock"
        text = lock.read_text()
        assert before in text
        lock.write_text(text.replace(before, after))

    def configure(self, section: str, key: str, value: object) -> None:
        """Set one value of configs/pipeline.yaml."""
        path = self.root / "configs" / "pipeline.yaml"
        document = yaml.safe_load(path.read_text())
        document.setdefault(section, {})[key] = value
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def configured(self, section: str, key: str, default: Any) -> Any:
        """Read one value of configs/pipeline.yaml."""
        return yaml.safe_load((self.root / "configs" / "pipeline.yaml").read_text()).get(section, {}).get(key, default)

    def commit(self, message: str) -> None:
        """Commit everything, as this person."""
        identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
        result = self.account.run("git", *identity, "commit", "--quiet", "--all", f"--message={message}", cwd=self.root)
        assert result.code == 0, result.output

    def limit_suites(self, count: int) -> None:
        """Send fewer samples of each suite: for verdicts that need no more, at a fraction of the time."""
        suites = self.configured("evaluate", "suites", [])
        self.configure("evaluate", "suites", [{**suite, "limit": count} for suite in suites])

    def copy(self, name: str) -> "Checkout":
        """Copy the working tree with its records and what was pushed; the cache stays shared."""
        target = self.root.parent / name
        subprocess.run(["cp", "--archive", str(self.root), str(target)], check=True)
        return Checkout(self.account, target, self.env)

    def remove(self) -> None:
        """Remove the working tree."""
        remove(self.root)


def remove(tree: Path) -> None:
    """Remove a tree, also what overlayfs left in it (a directory of mode 0, which nobody but root can look into)."""
    subprocess.run(["chmod", "--recursive", "--quiet", "u+rwX", str(tree)], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "--recursive", "--force", str(tree)], check=True)


def python_of(name: str, home: Path, run: Account | None = None) -> str:
    """Find an interpreter that has the pipeline's dependencies: the one named by the environment, this one, or one made now (20 s)."""
    named = os.environ.get(f"WEIGHBRIDGE_E2E_PYTHON_{name.upper()}")
    if named:
        return named
    account = run or Account(name, home, SYSTEM_PYTHON)
    if account.other is None:
        return sys.executable
    made = account.run(SYSTEM_PYTHON, "-m", "venv", "--without-pip", str(home / "venv"), cwd=home)
    assert made.code == 0, made.output
    requirements = ROOT / "constraints" / "run.txt"
    shutil.copy(requirements, home / "run.txt")
    filled = account.run(SYSTEM_PYTHON, "-m", "pip", "--python", str(home / "venv"), "install", "-q", "-r", str(home / "run.txt"), cwd=home)
    assert filled.code == 0, filled.output
    return str(home / "venv" / "bin" / "python")


def clone(account: Account, name: str) -> Checkout:
    """Clone the commit that is checked out, as `git clone` would give it to a person."""
    target = account.home / name
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(target)], check=True)
    subprocess.run(["git", "checkout", "--quiet", "-B", BRANCH], cwd=target, check=True)  # CI hosts check out a commit, not a branch
    account.own(target)
    return Checkout(account, target)
