"""What to run and where, as plain data: the request to the sandbox and its answer.

A spec holds paths of the host (layers, upper, work, sources) and paths of the container (targets, cwd, redirects); the latter
are only ever resolved inside the container's root. Nothing here touches the machine. The spec travels to the forkserver as
`marshal` data, so every field is made of str, bytes, int, float, bool, None and tuples; `to_wire` and `from_wire` convert.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pocket.sandbox.record import Note

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NetHandle(Protocol):
    """A network namespace of `pocket.network`: the descriptor of its nsfs file."""

    def fileno(self) -> int:
        """Return the open descriptor; it must stay open until the process has been spawned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of the container, applied in the given order after the root; see `ExecSpec.mounts`.

    overlay: `lowers` (top first) and, when writable, fresh `upper` and `work`; `subpath` shows one file or directory of it.
    bind: `source` is a directory, file or device of the host, with everything mounted below it.
    tmpfs: empty; `size` bytes (None: the kernel's half of the memory), `mode`, owner.
    file: `content` with `mode` and owner, in memory only; meant for secrets.
    """

    target: str
    kind: Literal["overlay", "bind", "tmpfs", "file"]
    lowers: tuple[str, ...] = ()
    upper: str | None = None
    work: str | None = None
    subpath: str = ""
    source: str | None = None
    content: bytes | None = None
    readonly: bool = False
    size: int | None = None
    mode: int | None = None
    uid: int = 0
    gid: int = 0

    def describe(self) -> str:
        """Return one line for logs and error messages; never shows `content`."""
        what = {
            "overlay": f"{len(self.lowers)} layers{' /' + self.subpath if self.subpath else ''}",
            "bind": str(self.source),
            "tmpfs": "" if self.size is None else f"{self.size} bytes",
            "file": f"{len(self.content or b'')} bytes in memory",
        }[self.kind]
        return f"{self.kind} {self.target} ({what}{', read-only' if self.readonly else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSpec:
    """One command in one container: its root, what is mounted in it, and how the command is run.

    lowers: layer directories of the root, topmost first, at most 500; empty means an empty root.
    upper, work: fresh directories on one file system, used for this run only.
    env: `NAME=value`; PATH and HOME are added when absent, nothing else is.
    user: "", name, uid, uid:gid or name:group, looked up in the container's own files.
    hosts: further lines of /etc/hosts. resolv: content of /etc/resolv.conf (None: the host's, as it is now).
    devices: paths of host devices that appear at the same path.
    insecure: every capability, no masked paths, no seccomp filter beyond what the tier needs.
    stdin: bytes, a file, or an open descriptor, which stays the caller's. tty: the streams are a terminal of the container, whose
        other side `Process.terminal` gives; the descriptors given for the streams are then not used.
    timeout: seconds until SIGTERM, then `grace` seconds until SIGKILL; None is for ever.
    """

    lowers: tuple[str, ...]
    upper: str
    work: str
    argv: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = "dagger"
    stdin: bytes | Path | int | None = None
    tty: bool = False
    redirect_stdin: str | None = None
    redirect_stdout: str | None = None
    redirect_stderr: str | None = None
    netns: Literal["host", "none"] | NetHandle = "host"
    hosts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    resolv: bytes | None = None
    no_init: bool = False
    insecure: bool = False
    devices: tuple[str, ...] = ()
    timeout: float | None = None
    grace: float = 10.0
    shm_size: int | None = None

    def describe(self) -> list[str]:
        """Return what will be mounted and run, one line each, for debug logs."""
        net = self.netns if isinstance(self.netns, str) else "own"
        head = [f"overlay / ({len(self.lowers)} layers)", *(m.describe() for m in self.mounts)]
        return [*head, f"run {list(self.argv)} in {self.cwd} as {self.user or 'root'}, network {net}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended.

    exit_code: the command's own, 128+n after signal n, -1 when the engine could not start it (then `error` says why).
    oom: killed while the kernel was out of memory; an inference from its counters, so say "probably".
    stubs: paths ("a/b") that mounts made in the container's root; commit drops those that are still empty.
    mount_stubs: the same for writable overlay mounts: (index of the mount, path inside it).
    owner: (uid, gid) that files made by this command truly have where the disk cannot show it (single-uid tier), else None.
    owners: what the command gave to other owners, and the devices it made, where the disk cannot show it; see `record.Note`.
    made_cwd: directories that were made because the working directory was missing; they belong to the user and stay.
    """

    exit_code: int
    error: str | None = None
    oom: bool = False
    timed_out: bool = False
    stubs: tuple[str, ...] = ()
    mount_stubs: tuple[tuple[int, str], ...] = ()
    owner: tuple[int, int] | None = None
    owners: tuple[Note, ...] = ()
    made_cwd: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def to_wire(spec: ExecSpec) -> dict[str, Any]:
    """Return the spec as marshal-able data; stdin and netns, which travel as descriptors, are only marked."""
    wire: dict[str, Any] = {f.name: getattr(spec, f.name) for f in fields(spec)}
    wire["mounts"] = tuple({f.name: getattr(m, f.name) for f in fields(m)} for m in spec.mounts)
    wire["stdin"] = None
    wire["netns"] = spec.netns if isinstance(spec.netns, str) else "handle"
    return wire


def from_wire(wire: dict[str, Any]) -> ExecSpec:
    """Return the spec that `to_wire` was given, without stdin."""
    mounts = tuple(Mount(**m) for m in wire["mounts"])
    return ExecSpec(**{**wire, "mounts": mounts})
