"""The error of this package: the machine refuses something a container needs. Its hint says what to change."""

from pocket.errors import PocketError


class SandboxError(PocketError):
    """A namespace, mount or device that the sandbox needs is refused; not a failure of the command itself."""
