"""What buildah makes of a Dockerfile: the other builder that pocket's is compared with.

buildah runs as root, with a storage of its own in a directory of the test, without a daemon or a network.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

#: Names that buildah leaves in the image of every RUN; Dagger's engine and pocket take away what they put there.
LEFT_BEHIND = ("etc/hostname", "etc/hosts", "etc/resolv.conf", "run", "run/.containerenv", "run/secrets", "dev/null", "proc", "sys")


def why_not() -> str:
    """Say why there is no buildah to compare with; "" when there is."""
    if shutil.which("buildah") is None:
        return "buildah is not installed (apt-get install buildah)"
    return "" if os.geteuid() == 0 else "buildah is asked as root only"


class Buildah:
    """A storage with one base image named `base`."""

    def __init__(self, home: Path, base: Path) -> None:
        self.home = home
        self.policy = home / "policy.json"
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        image = self("pull", "--signature-policy", str(self.policy), f"oci-archive:{base}").strip().splitlines()[-1]
        self("tag", image, "localhost/base:latest")

    def __call__(self, *command: str) -> str:
        """Run one command of buildah.

        Raises:
            AssertionError: it fails; what it said is the message.
        """
        storage = ["--storage-driver", "vfs", "--root", str(self.home / "root"), "--runroot", str(self.home / "run")]
        done = subprocess.run(["buildah", *storage, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"buildah {' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def build(self, context: Path, dockerfile: Path, *, args: dict[str, str], secrets: dict[str, str], out: Path) -> Path:
        """Build, and write the image as an archive of Docker's kind, which holds every setting."""
        options = [f"--build-arg={k}={v}" for k, v in args.items()]
        for name, value in secrets.items():
            place = self.home / f"secret-{name}"
            place.write_text(value)
            options.append(f"--secret=id={name},src={place}")
        name = f"localhost/{out.stem}:latest"
        fixed = ["--isolation=chroot", "--network=host", "--format=docker", "--identity-label=false", "--pull-never"]
        self("build", *fixed, "--signature-policy", str(self.policy), *options, "-t", name, "-f", str(dockerfile), str(context))
        self("push", "--signature-policy", str(self.policy), name, f"docker-archive:{out}")
        return out
