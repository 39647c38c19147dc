"""pocket: an embedded engine that speaks the Dagger session protocol, without Docker, daemon, root or network.

A Dagger SDK program starts it as its CLI (`_EXPERIMENTAL_DAGGER_CLI_BIN`); everything it keeps lies in one cache directory.
"""

__version__ = "0.1.0"

#: The engine version whose API this is; SDKs compare it with what they need.
API_VERSION = "v0.21.8"
