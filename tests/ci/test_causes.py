"""Known causes of failure: each is recognised in what programs really say, and nothing is read into other words."""

import pytest

from ci.causes import CAUSES, hint_of


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("OSError: [Errno 28] No space left on device: '/x'", "WEIGHBRIDGE_CACHE"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "gpu_memory"),
        ("MemoryError: Unable to allocate 3 GiB", "more memory"),
        ("RuntimeError: Found no NVIDIA driver on your system.", "stages.<name>.gpus: 0"),
        ("GPU support is not enabled, set _EXPERIMENTAL_DAGGER_GPU_SUPPORT", "stages.<name>.gpus: 0"),
        ("ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "SSL_CERT_FILE"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "SSL_CERT_FILE"),
        ("unauthorized: authentication required", "docker login"),
        ("denied: requested access to the resource is denied", "docker login"),
        ("toomanyrequests: You have reached your pull rate limit", "mirror"),
        ("urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>", "HTTPS_PROXY"),
        ("exec /bin/x: exec format error", "another processor"),
    ],
)
def test_what_programs_say_has_a_hint(said: str, word: str) -> None:
    assert word in hint_of(f"first\n{said}\nlast")


@pytest.mark.parametrize("said", ["", "AssertionError: 401 != 200", "E   assert memory == 3", "ValueError: the certificate of merit"])
def test_other_words_have_none(said: str) -> None:
    assert hint_of(said) == ""


def test_each_cause_has_its_own_hint() -> None:
    assert len({cause.hint for cause in CAUSES}) == len(CAUSES)
