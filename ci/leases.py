"""Shares GPUs and named resources between all runs of a machine, whoever started them.

Each claim is a small file in one directory of the machine, on which its process holds a lock (flock) for as long as the claim lives. The
kernel drops the lock when the process ends, however it ends, so no claim outlives its holder and nothing has to be cleaned up: a file that
nobody locks counts for nothing. Claims are looked at and made under a second lock, so two runs never take the same thing; earlier claims go
first. What is not shared through this directory (another host, a container that does not mount it) is not seen; `WEIGHBRIDGE_LEASES` names
a directory that is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pwd
import stat
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ci.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ci.gpu import Gpu

# Open to every user on every start, with the sticky bit: what one user made no other can remove. Not /tmp first, where old files vanish.
_PLACES = ("/run/lock", "/dev/shm", "/tmp")
_GATE, _SUFFIX = "gate", ".claim"
_WHOLE = -1


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a stage takes of the machine."""

    gpus: int = 0
    memory: int = 0
    """MiB on each GPU, shared with others; 0 for the GPUs as a whole."""
    amounts: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Tell whether anything is wanted."""
        return bool(self.gpus or self.amounts)

    @property
    def kinds(self) -> frozenset[str]:
        """What is wanted, without amounts."""
        return frozenset([*(["gpu"] if self.gpus else []), *self.amounts])


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who has a claim, or waits for one."""

    run: str
    stage: str
    pid: int = field(default_factory=os.getpid)
    user: str = field(default_factory=_user)
    since: float = 0.0
    """When it was granted, in seconds since 1970; 0 while it waits."""

    def __str__(self) -> str:
        """Say who, and since when."""
        clock = f", since {time.strftime('%H:%M:%S', time.localtime(self.since))}" if self.since else ""
        return f"{self.stage} of run {self.run} (pid {self.pid}, {self.user}{clock})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Why a claim is not granted yet."""

    what: str
    holders: tuple[Holder, ...]

    def __str__(self) -> str:
        """Say what is waited for and who has it."""
        first, *more = self.holders or (None,)
        if first is None:
            return f"waits for {self.what}"
        verb = "held by" if first.since else "behind"
        return f"waits for {self.what}: {verb} {first}" + (f" and {len(more)} more" if more else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A claim as its file tells it."""

    holder: Holder
    want: Want
    gpus: Mapping[str, int] = field(default_factory=dict)
    """UUID → MiB, or `_WHOLE`."""

    def to_json(self) -> bytes:
        """Return the file's content."""
        holder = {name: getattr(self.holder, name) for name in ("run", "stage", "pid", "user", "since")}
        want = {"gpus": self.want.gpus, "memory": self.want.memory, "amounts": dict(self.want.amounts)}
        return json.dumps({"schema": 1, "holder": holder, "want": want, "gpus": dict(self.gpus)}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> _Claim:
        """Read a file's content; raises ValueError, KeyError or TypeError for what is none."""
        value = json.loads(data)
        return cls(holder=Holder(**value["holder"]), want=Want(**value["want"]), gpus=value["gpus"])


class Lease:
    """A claim that waits or was granted; it ends with `release`, or with this process."""

    def __init__(self, path: Path, descriptor: int, claim: _Claim) -> None:
        self._path, self._descriptor, self.claim = path, descriptor, claim

    @property
    def name(self) -> str:
        """The file's name, which sorts by age."""
        return self._path.name

    @property
    def gpus(self) -> tuple[str, ...]:
        """The UUIDs of the granted GPUs."""
        return tuple(self.claim.gpus)

    def write(self, claim: _Claim) -> None:
        """Say anew what is claimed; only under the gate, so nobody reads half of it."""
        self.claim = claim
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, claim.to_json(), 0)

    def release(self) -> None:
        """Give everything back; may be called again."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)  # drops the lock: after the file is gone, so that a reader finds either all or nothing
            self._descriptor = -1


@dataclass(slots=True, kw_only=True)
class Pool:
    """What the machine has, and the directory that says who has what of it."""

    directory: Path
    gpus: Sequence[Gpu]
    amounts: Mapping[str, int]

    def impossible(self, want: Want) -> str:
        """Say why a want can never be granted here; empty when it can."""
        large = [gpu for gpu in self.gpus if gpu.memory >= want.memory or not gpu.memory]
        if want.gpus > len(large):
            have = ", ".join(f"{gpu.name} ({gpu.memory / 1024:.0f} GiB)" if gpu.memory else gpu.name for gpu in self.gpus)
            each = f" with {want.memory / 1024:g} GiB" if want.memory else ""
            return f"needs {want.gpus} GPU{'s' if want.gpus > 1 else ''}{each}, and this machine has {have or 'none'}"
        for name, amount in want.amounts.items():
            if amount > self.amounts.get(name, 0):
                return f"needs {amount} of {name}, and run.resources has {self.amounts.get(name, 0)}"
        return ""

    def enter(self, want: Want, holder: Holder) -> Lease | None:
        """Queue up; None when somebody else is at the gate at this very moment."""
        with self._gate() as mine:
            if not mine:
                return None
            path = self.directory / f"{time.time_ns():020d}-{os.getpid()}-{os.urandom(3).hex()}{_SUFFIX}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            os.fchmod(descriptor, 0o644)  # whatever the umask: others must be able to read who holds what
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lease = Lease(path, descriptor, _Claim(holder=holder, want=want))
            lease.write(lease.claim)
            return lease

    def grant(self, lease: Lease, prefer: Sequence[str] = ()) -> Blocked | None:
        """Grant a queued claim when nothing is in its way, all of it or nothing; else say what is. `prefer` names GPUs to take first."""
        with self._gate() as mine:
            if not mine:
                return Blocked(what="the gate", holders=())
            claim = lease.claim
            others = [(name, found) for name, found in self._alive() if name != lease.name]
            held = [found for _, found in others if found.holder.since]
            if blocked := self._short(claim.want, held) or _queued_before(lease, others):
                return blocked
            chosen = self._choose(claim.want, held, prefer)
            if isinstance(chosen, Blocked):
                return chosen
            lease.write(_Claim(holder=replace(claim.holder, since=time.time()), want=claim.want, gpus=chosen))
            return None

    def holders(self) -> list[Holder]:
        """Return everybody who holds something or waits for it, the earliest first; nobody while somebody else looks."""
        with self._gate() as mine:
            return [claim.holder for _, claim in self._alive()] if mine else []

    # --- what is free

    def _choose(self, want: Want, held: Sequence[_Claim], prefer: Sequence[str]) -> dict[str, int] | Blocked:
        fitting = [gpu for gpu in self.gpus if self._fits(gpu, want.memory, held)]
        if len(fitting) < want.gpus:
            return self._no_gpu(want, held)
        # The smallest that does: what needs a large one shall find it free.
        fitting.sort(key=lambda gpu: (gpu.uuid not in prefer, gpu.memory - _claimed(gpu, held)))
        return {gpu.uuid: want.memory or _WHOLE for gpu in fitting[: want.gpus]}

    @staticmethod
    def _fits(gpu: Gpu, memory: int, held: Sequence[_Claim]) -> bool:
        if not memory:
            return not any(gpu.uuid in claim.gpus for claim in held)
        if any(claim.gpus.get(gpu.uuid) == _WHOLE for claim in held):
            return False
        # What somebody uses without a claim is as gone as what is claimed and not used yet.
        return not gpu.memory or gpu.memory - max(_claimed(gpu, held), gpu.used) >= memory

    def _no_gpu(self, want: Want, held: Sequence[_Claim]) -> Blocked:
        own = {gpu.uuid for gpu in self.gpus}
        holders = tuple(claim.holder for claim in held if own & set(claim.gpus))
        which = f"GPU {self.gpus[0].index}" if len(self.gpus) == 1 else f"{want.gpus} of {len(self.gpus)} GPUs"
        each = f" with {want.memory / 1024:g} GiB free" if want.memory else ""
        foreign = "" if holders or not want.memory else " (its memory is used by programs without a lease)"
        return Blocked(what=f"{which}{each}{foreign}", holders=holders)

    def _short(self, want: Want, held: Sequence[_Claim]) -> Blocked | None:
        for name, amount in want.amounts.items():
            having = [claim for claim in held if name in claim.want.amounts]
            there = self.amounts.get(name, 0)
            taken = sum(claim.want.amounts[name] for claim in having)
            if taken + amount > there:
                return Blocked(what=f"{name} ({taken} of {there} taken)", holders=tuple(claim.holder for claim in having))
        return None

    # --- the directory

    def _alive(self) -> Iterator[tuple[str, _Claim]]:
        """Give the claims whose process lives, by age; files of dead ones are removed where that is allowed."""
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:  # it was released just now
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # what another version wrote cannot be counted
                    yield path.name, _Claim.from_json(os.pread(descriptor, 1 << 16, 0))
            else:
                with contextlib.suppress(OSError):  # another user's; it counts for nothing anyway
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _gate(self) -> Iterator[bool]:
        """Keep others from looking and claiming; gives whether that worked. Never waits: who holds the gate may have been stopped."""
        descriptor = _opened(self.directory / _GATE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def place(environ: Mapping[str, str]) -> Path:
    """Return the directory of this machine's leases, and make it; raises InfraError when that cannot be done."""
    named = environ.get("WEIGHBRIDGE_LEASES")
    directory = Path(named) if named else _general() / "weighbridge-leases"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(0o1777)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        hint = "WEIGHBRIDGE_LEASES names the directory; every user of this machine's GPUs must be able to write there"
        raise InfraError(f"leases cannot be kept: {error.strerror}", where=str(directory), hint=hint, lasting=True) from error
    return directory


def _general() -> Path:
    """Return a directory that everybody may write to; the same for every user, so it is chosen by its mode and not by who asks."""
    for name in _PLACES:
        with contextlib.suppress(OSError):
            mode = Path(name).stat().st_mode
            if mode & stat.S_ISVTX and mode & stat.S_IWOTH:
                return Path(name)
    return Path(_PLACES[-1])


def _opened(path: Path) -> int:
    """Open a file that everybody may lock, making it when it is not there.

    Not `O_CREAT` alone: where fs.protected_regular is on, that is refused for somebody else's file in a sticky directory.
    """
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            os.fchmod(descriptor, 0o644)
            return descriptor


def _queued_before(lease: Lease, others: Sequence[tuple[str, _Claim]]) -> Blocked | None:
    """Let those who asked earlier for the same go first, or who needs many GPUs would never find them free together.

    Stages of one run do not queue behind each other: that run knows best which of them to put first.
    """
    own = lease.claim
    earlier = [claim for name, claim in others if name < lease.name and not claim.holder.since and claim.holder.run != own.holder.run]
    shared = [claim for claim in earlier if claim.want.kinds & own.want.kinds]
    kinds = sorted({kind for claim in shared for kind in claim.want.kinds & own.want.kinds})
    return Blocked(what=" and ".join(kinds), holders=tuple(claim.holder for claim in shared)) if shared else None


def _claimed(gpu: Gpu, held: Sequence[_Claim]) -> int:
    return sum(claim.gpus.get(gpu.uuid, 0) for claim in held)
