"""A self-signed certificate for a server under test."""

from __future__ import annotations

from pathlib import Path

from tests.real import machine


def make(folder: Path, name: str = "mail.example.org") -> tuple[Path, Path]:
    """Write ``cert.pem`` and ``key.pem`` for a host name and return their paths."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    openssl = machine.need("openssl", "openssl")
    made = machine.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", key, "-out", certificate]
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    key.chmod(0o600)
    return certificate, key
