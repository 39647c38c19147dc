"""The errors of this package: the machine refuses something (the hint says what to change), or a step cannot be started."""

from pocket.errors import PocketError


class SandboxError(PocketError):
    """A namespace, mount or device that the sandbox needs is refused; not a failure of the command itself."""


class StepError(PocketError):
    """The command cannot be started as asked: no such user, no directory for a redirect. Becomes `Outcome.error`."""
