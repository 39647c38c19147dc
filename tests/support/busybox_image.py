"""The image that cases run in: busybox, two users, three groups and nothing else, as an OCI archive of one megabyte."""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

APPLETS = (  # noqa: SIM905 - a column of sixty words
    "sh ls cat echo env printf true false id stat mkdir rm cp mv ln test [ sleep touch chmod chown head tail grep sed awk wc sort "
    "find tr cut basename dirname readlink realpath date hostname whoami uname pwd tee xargs md5sum sha256sum dd df mount umount "
    "nc wget httpd kill ps seq tar gzip du od diff sync mktemp nproc timeout expr ip ifconfig ping nslookup yes setsid nohup "
    "mkfifo mknod logger"
).split()
DIRECTORIES = ("bin", "etc", "root", "home", "home/app", "usr", "usr/bin", "var", "dev", "proc", "sys")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:1000:\nstaff:x:50:app\n"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MEDIA = "application/vnd.oci.image."


def busybox() -> Path:
    """Find a busybox that needs no library; skip the test where there is none."""
    found = os.environ.get("WEIGHBRIDGE_BUSYBOX") or shutil.which("busybox") or ""
    if not found or b"ld-linux" in Path(found).read_bytes()[:4096]:
        pytest.skip("no busybox without libraries on this machine (apt-get install busybox-static)")
    return Path(found)


def layer(program: Path) -> bytes:
    """Give the tar of the root file system."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def add(name: str, data: bytes | None = None, mode: int = 0o755, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            elif data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if data is not None else None)

        for name in DIRECTORIES:
            add(name)
        add("tmp", mode=0o1777)
        add("bin/busybox", program.read_bytes())
        for applet in APPLETS:
            add(f"bin/{applet}", link="busybox")
        add("etc/passwd", PASSWD, 0o644)
        add("etc/group", GROUP, 0o644)
        add("etc/base-release", b"conformance 1\n", 0o644)
    return out.getvalue()


def make_base(out: Path) -> Path:
    """Write the archive."""
    raw = layer(busybox())
    packed = gzip.compress(raw, 6, mtime=0)
    config = {
        "architecture": "amd64", "os": "linux",
        "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"], "Labels": {"org.opencontainers.image.title": "conformance"}},
        "rootfs": {"type": "layers", "diff_ids": [_sha(raw)]}, "history": [{"created_by": "conformance cases"}],
    }  # fmt: skip
    blobs = {f"{_MEDIA}layer.v1.tar+gzip": packed, f"{_MEDIA}config.v1+json": json.dumps(config).encode()}
    (packed_layer, configuration) = [{"mediaType": m, "digest": _sha(b), "size": len(b)} for m, b in blobs.items()]
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": f"{_MEDIA}manifest.v1+json", "config": configuration, "layers": [packed_layer],
    }).encode()  # fmt: skip
    index = json.dumps({
        "schemaVersion": 2, "mediaType": f"{_MEDIA}index.v1+json",
        "manifests": [{
            "mediaType": f"{_MEDIA}manifest.v1+json", "digest": _sha(manifest), "size": len(manifest),
            "platform": {"architecture": "amd64", "os": "linux"}, "annotations": {"org.opencontainers.image.ref.name": "latest"},
        }],
    }).encode()  # fmt: skip
    with tarfile.open(out, "w") as tar:
        named = [(f"blobs/sha256/{_sha(b)[7:]}", b) for b in (*blobs.values(), manifest)]
        for name, data in [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index), *named]:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out


def _sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
