"""The network of one session's services: a namespace with a bridge, an address for each container on it, sockets into it.

Execs that bind services, and the services, are attached; all other execs use the host's network. Everything lives in network
namespaces of this process's user namespace, so it needs no root and vanishes with the session.
"""

from pocket.network.run import Attachment, NetworkError, RunNetwork

__all__ = ["Attachment", "NetworkError", "RunNetwork"]
