import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket.errors import PocketError
from pocket.oci import config as cfg
from pocket.oci import digest as dg
from pocket.oci import manifest as mf
from pocket.oci import media
from pocket.oci.config import ImageConfig
from pocket.oci.image import artifact, from_layers
from pocket.oci.manifest import Descriptor, Manifest, ManifestError, ManifestIndex, Platform

D = Descriptor(media_type=media.OCI_LAYER, digest="sha256:" + "1" * 64, size=5, annotations={"b": "2", "a": "1"})

DOCKER_CONFIG: dict[str, Any] = {
    "architecture": "arm64",
    "os": "linux",
    "variant": "v8",
    "created": "2024-01-01T00:00:00Z",
    "author": "me",
    "docker_version": "20",
    "config": {
        "User": "u:g",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Env": ["A=1", "B="],
        "Entrypoint": ["/e"],
        "Cmd": [],
        "Volumes": {"/v": {}},
        "WorkingDir": "/w",
        "Labels": {"k": "v"},
        "StopSignal": "SIGQUIT",
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5, "Timeout": 6, "StartPeriod": 7, "StartInterval": 8, "Retries": 9},
        "OnBuild": ["RUN x"],
        "Shell": ["/bin/bash", "-c"],
        "ArgsEscaped": True,
        "Hostname": "h",
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "a" * 64]},
    "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "x", "empty_layer": True}, {"comment": "c", "author": "a"}],
}


def test_a_configuration_survives_a_round_trip_whole() -> None:
    c = cfg.read(json.dumps(DOCKER_CONFIG).encode())
    assert json.loads(c.to_bytes()) == DOCKER_CONFIG
    assert (c.env, c.entrypoint, c.cmd) == (("A=1", "B="), ("/e",), ())
    assert c.healthcheck is not None
    assert c.healthcheck.start_interval == 8
    assert str(c.platform) == "linux/arm64/v8"
    assert c.history[0].empty_layer


def test_unset_is_not_empty() -> None:
    c = cfg.read(b'{"config":{"Cmd":null,"Env":null,"Entrypoint":"/bare","Labels":null}}')
    assert (c.cmd, c.entrypoint, c.env, c.labels) == (None, ("/bare",), (), {})
    written = json.loads(ImageConfig(architecture="amd64", cmd=()).to_bytes())
    assert written["config"] == {"Cmd": []}
    assert "history" not in written


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[]",
            "{",
            '{"config": [1]}',
            '{"config":{"Env":[1]}}',
            '{"config":{"User":5}}',
            '{"rootfs":{"diff_ids":["sha256:../../x"]}}',
        ),
        *('{"config":{"Labels":[1]}}', "[" * 100_000),
    ],
)
def test_configurations_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(PocketError):
        cfg.read(text.encode())


def test_manifests_and_indexes_survive_a_round_trip() -> None:
    m = Manifest(config=D, layers=(D, D), annotations={"z": "1", "y": "ü"}, artifact_type="application/x", subject=D)
    assert mf.read(m.to_bytes()) == m
    assert list(json.loads(m.to_bytes())["annotations"]) == ["y", "z"]
    with_platform = Descriptor(
        media_type=media.OCI_MANIFEST, digest=D.digest, size=1, platform=Platform("linux", "arm", "v7"), artifact_type="t"
    )
    i = ManifestIndex(manifests=(with_platform,), annotations={"k": "v"}, subject=D)
    assert mf.read(i.to_bytes()) == i


def test_the_kind_is_found_without_a_media_type() -> None:
    for value, kind in ((Manifest(config=D, layers=()), Manifest), (ManifestIndex(manifests=()), ManifestIndex)):
        raw = json.loads(value.to_bytes())
        del raw["mediaType"]
        assert isinstance(mf.read(json.dumps(raw).encode()), kind)
        assert isinstance(mf.read(json.dumps(raw).encode(), f"{value.media_type}; charset=utf-8"), kind)


def test_a_platform_is_selected_with_its_variant_or_without() -> None:
    def entry(n: int, *platform: str) -> Descriptor:
        return Descriptor(
            media_type=media.OCI_MANIFEST, digest=f"sha256:{n:064}", size=n, platform=Platform(*platform) if platform else None
        )

    index = ManifestIndex(
        manifests=(
            entry(1, "linux", "amd64"),
            entry(2, "linux", "arm64", "v8"),
            entry(3, "linux", "arm", "v6"),
            entry(4, "unknown", "unknown"),
        )
    )
    assert index.select(Platform.parse("linux/amd64")).size == 1
    assert index.select(Platform.parse("linux/arm64")).size == 2
    assert index.select(Platform.parse("linux/arm/v6")).size == 3
    with pytest.raises(ManifestError, match=r"no match for platform linux/arm/v7.*linux/amd64, linux/arm/v6"):
        index.select(Platform.parse("linux/arm/v7"))
    assert ManifestIndex(manifests=(entry(9),)).select(Platform.local()).size == 9
    for text in ("linux", "a/b/c/d", "linux/", ""):
        with pytest.raises(ManifestError):
            Platform.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "null",
            "5",
            '{"schemaVersion":1}',
            '{"schemaVersion":2}',
            '{"schemaVersion":2,"config":{},"layers":[]}',
            '{"schemaVersion":2,"manifests":{}}',
        ),
        '{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:../x","size":1},"layers":[]}',
        '{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:' + "a" * 64 + '","size":-1}]}',
        '{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha512:' + "a" * 128 + '","size":1}]}',
    ],
)
def test_malformed_manifests_are_refused(text: str) -> None:
    with pytest.raises(PocketError):
        mf.read(text.encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda c: (
            st.lists(c, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "schemaVersion",
                        "config",
                        "layers",
                        "manifests",
                        "mediaType",
                        "digest",
                        "size",
                        "platform",
                        "annotations",
                        "rootfs",
                        "diff_ids",
                        "Env",
                    ]
                ),
                c,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused_with_a_sentence(value: Any) -> None:
    data = json.dumps(value).encode()
    for read in (mf.read, cfg.read):
        with contextlib.suppress(PocketError):
            read(data)


def test_digests_are_checked_before_use() -> None:
    assert dg.hex_of(dg.of_bytes(b"")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for bad in ("", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63 + "/", "sha256:" + "a" * 64 + "\n", "../../etc/passwd"):
        with pytest.raises(dg.DigestError):
            dg.checked(bad)


def test_layers_and_diff_ids_must_agree() -> None:
    with pytest.raises(ManifestError, match="1 layers and 0 diff ids"):
        from_layers(ImageConfig(), [D], blobs=None)  # type: ignore[arg-type]


def test_media_types() -> None:
    assert media.layer("none") == media.OCI_LAYER
    assert media.layer("zstd") == media.OCI_LAYER + "+zstd"
    assert media.layer("gzip", docker=True) == "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert media.layer("zstd", docker=True) == media.OCI_LAYER + "+zstd"


def test_an_artefact_names_its_subject_by_type_digest_and_size_alone() -> None:
    made = artifact("application/vnd.x.report.v1+json", [D], blobs=None, subject=D, annotations={"k": "v"})  # type: ignore[arg-type]
    raw = json.loads(made.manifest_bytes)
    assert raw["subject"] == {"mediaType": D.media_type, "digest": D.digest, "size": D.size}
    assert raw["artifactType"] == "application/vnd.x.report.v1+json"
    assert raw["config"]["digest"] == dg.of_bytes(b"{}")
    assert made.config is None
