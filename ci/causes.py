"""What to do about causes of failure that everybody meets sooner or later, recognised by what programs and engines say about them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause: what to do about it, and words of which one is said where it is at work (regular expressions, in any case)."""

    hint: str
    words: tuple[str, ...]

    def is_told_by(self, said: str) -> bool:
        """Tell whether a text speaks of this cause."""
        return re.search("|".join(self.words), said, re.IGNORECASE) is not None


# The first one counts: what is special comes before what is general.
CAUSES = (
    Cause(
        "free some space (pocket prune --max-bytes N), or set WEIGHBRIDGE_CACHE to a directory on another disk",
        ("no space left on device", "disk quota exceeded", "ENOSPC"),
    ),
    Cause(
        "the GPU has too little memory left: ask for more with stages.<name>.gpu_memory, or load less (a shorter context, a smaller batch)",
        ("CUDA out of memory", "CUDA error: out of memory", r"torch\.OutOfMemoryError", "CUBLAS_STATUS_ALLOC_FAILED"),
    ),
    Cause(
        "run it where there is more memory, or make it use less: a smaller batch, fewer workers, a lower run.concurrency",
        (r"\bMemoryError\b", "cannot allocate memory", "out of memory"),
    ),
    Cause(
        "there is no GPU that this step can use: doctor shows what is found here; stages.<name>.gpus: 0 goes without",
        (
            "no CUDA-capable device",
            "found no NVIDIA driver",
            "CUDA driver version is insufficient",
            r"libcuda\.so",
            "nvidia-container-runtime-hook",
            "GPU support is not enabled",
            "no NVIDIA GPU",
        ),
    ),
    Cause(
        "the network's certificate is not trusted: name its CA bundle in SSL_CERT_FILE; doctor shows what steps get of the machine",
        (
            "certificate_verify_failed",
            "certificate verify failed",
            "unknown authority",
            "self[- ]signed certificate",
            "unable to get local issuer",
        ),
    ),
    Cause(
        "log in (docker login REGISTRY), or give the CI host a login in DOCKER_CONFIG; doctor says whether there is one",
        (
            r"\b401\b.*(unauthorized|authentication)",
            "unauthorized: ",
            "authentication required",
            "denied: requested access",
            "no basic auth credentials",
            r"\b403 forbidden\b",
        ),
    ),
    Cause("the registry counts anonymous pulls: log in, or name a mirror in base.image", ("toomanyrequests", "pull rate limit")),
    Cause(
        "a name does not resolve: is this machine on the network, and does it need a proxy (HTTPS_PROXY)?",
        ("temporary failure in name resolution", "name or service not known", "could not resolve host", "no such host"),
    ),
    Cause("the program is for another processor: build or pull it for this machine's platform", ("exec format error",)),
)


def hint_of(said: str) -> str:
    """Return what to do about the first known cause that a text speaks of; empty when it speaks of none."""
    return next((cause.hint for cause in CAUSES if cause.is_told_by(said)), "")
