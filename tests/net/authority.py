"""A certificate authority for tests."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


class Authority:
    """A certificate authority; ``pem`` is its own certificate."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self.sign(self.key, "test authority", authority=True)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(
        self, key: Key, name: str, *, days: int = 2, authority: bool = False, alone: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if alone else self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=5))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key if alone else self.key, hashes.SHA256())
        )

    def revoke(self, serial: int) -> bytes:
        """Return a list, as PEM, that has one certificate of ours."""
        now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017
        day = datetime.timedelta(days=1)
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - day)
        builder = x509.CertificateRevocationListBuilder(
            self.name, now - day, now + day, revoked_certificates=[one.build()]
        )
        signed = builder.sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


AUTHORITY = Authority()
