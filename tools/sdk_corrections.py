"""What the SDK's Python annotations cannot say of Dagger's API, as observed on engine v0.21.8."""

from __future__ import annotations

# A method that returns an object is annotated `-> Foo` whether or not the engine may answer null.
NULLABLE_FIELDS: dict[str, set[str]] = {
    "Query": {"node"},
    "Container": {"dockerHealthcheck", "stat"},
    "Directory": {"stat"},
    "File": {"stat"},
}

# The SDK tells of these only in prose: (type, field, argument).
DEPRECATED_ARGS: set[tuple[str, str, str]] = {
    ("Query", "envFile", "expand"),
    ("Query", "git", "keepGitDir"),
    ("File", "asEnvFile", "expand"),
}
