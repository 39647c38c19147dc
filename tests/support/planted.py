"""Findings for scans. They are put together here, so that no scan of this repository takes them for secrets."""

AWS = "AKIA" + "IOSFODNN7EXAMPL3"
GITHUB = "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"
PRIVATE = "-----BEGIN RSA " + "PRIVATE KEY-----"
