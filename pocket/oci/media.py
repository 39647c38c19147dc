"""Media types of OCI and of Docker, and what they mean for a layer."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))


def layer(compression: str, *, docker: bool = False) -> str:
    """Return the media type of a layer compressed with `gzip`, `zstd` or `none`. Docker's own types know no zstd."""
    if docker and compression != "zstd":
        return DOCKER_LAYER + (".gzip" if compression == "gzip" else "")
    return OCI_LAYER + ("" if compression == "none" else f"+{compression}")
