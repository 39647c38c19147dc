"""The secrets of one session: their values live here, in memory, and nowhere else.

What a key sees of a secret is a name; a secret from a provider is named by a salted hash of its value, so that another value
runs the command again and the same value hits in a later session.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets as random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.errors import PocketError
from pocket.values import Secret

if TYPE_CHECKING:
    from pocket.values import Container

_PROVIDERS_ELSEWHERE = ("op", "vault", "libsecret", "gcp", "aws+sm", "aws+ps")


class SecretError(PocketError):
    """A secret cannot be had, in the words of the Dagger engine."""

    hint_shown = False


def stable_salt(root: Path) -> bytes:
    """Give the salt of a cache directory, made when it is first asked for; readable by the owner alone."""
    place = root / "salt"
    if not place.exists():
        temp = root / "tmp" / f"salt-{random.token_hex(6)}"
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, random.token_bytes(32))
        os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.link(temp, place)  # whoever is first decides
        temp.unlink()
    return place.read_bytes()


class Secrets:
    """Values by identity, or why there is none: that is told to whoever needs the value, not to who asks for the URI."""

    def __init__(self, *, salt: bytes, workdir: Path) -> None:
        self._values: dict[str, bytes | PocketError] = {}
        self._salt = salt
        self._workdir = workdir

    def keep(self, name: str, plaintext: bytes) -> Secret:
        """Take a value under a name; the name is all that keys see of it, as with Dagger's setSecret."""
        secret = Secret(random.token_hex(8), name)
        self._values[secret.ident] = plaintext
        return secret

    def declare(self, uri: str, cache_key: str | None) -> Secret:
        """Name a secret of the host by URI and read it."""
        value: bytes | PocketError
        try:
            value = _read(uri, self._workdir)
            name = cache_key or hashlib.scrypt(value, salt=self._salt, n=1024, r=8, p=1, dklen=16).hex()
        except PocketError as e:
            value, name = e, random.token_hex(16)
        secret = Secret(random.token_hex(8), name, uri)
        self._values[secret.ident] = value
        return secret

    def value(self, secret: Secret) -> bytes:
        """Give the value.

        Raises:
            PocketError: the URI is malformed, its provider unknown, or the value not to be had.
        """
        value = self._values[secret.ident]
        if isinstance(value, PocketError):
            raise value
        return value

    def values_in(self, container: Container) -> list[bytes]:
        """Give the values that a command in a container can see; its output is scrubbed of them."""
        attached = [s for _, s in container.secret_env] + [m.secret for m in container.mounts if m.secret is not None]
        return [v for s in attached if (v := self.value(s)).strip()]


def _read(uri: str, workdir: Path) -> bytes:
    scheme, separator, rest = uri.partition("://")
    if not separator or not scheme:
        raise PocketError(f'parse "{uri}": malformed id')
    match scheme:
        case "env":
            if (value := os.environb.get(os.fsencode(rest))) is None:
                hint = "set it in the environment that the session is started with"
                raise SecretError(f'secret env var not found: "{f"{rest[:3]}..." if rest else ""}"', hint=hint)
            return value
        case "file":
            try:
                return (workdir / Path(rest).expanduser()).read_bytes()
            except OSError as e:
                why = (e.strerror or "").lower()
                raise SecretError(f'failed to read secret file "{rest}": open {rest}: {why}', hint="check the path and its mode") from e
        case "cmd":
            return _output(rest)
    if scheme in _PROVIDERS_ELSEWHERE:
        raise PocketError(f"not supported by pocket: secret provider {scheme!r} — use a Dagger engine")
    raise PocketError(f'unsupported secret provider: "{scheme}"')


def _output(command: str) -> bytes:
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        # Not its output: what a failing command says may well hold the secret.
        failed = f'failed to run secret command "{command}": exit status {done.returncode}'
        raise SecretError(failed, hint="run it by hand to see why")
    return done.stdout
