"""``certextract``: fields of a peer's certificate (specification 11.5)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mailsrv.expansion.branches import parse_branches
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.items import item
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Lazy, Node, any_waits, evaluate
from mailsrv.mail.taint import like

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_VARIABLES = frozenset(
    f"tls_{way}_{whose}" for way in ("in", "out") for whose in ("ourcert", "peercert")
)


@item("certextract")
def _certextract(parser: Parser) -> Node:
    (field,) = parser.each("certextract", "field arg")
    if parser.peek() != "{":
        raise ExpansionError("missing '{' for cert variable arg of certextract")
    certificate, raw = parser.verbatim()
    raw = raw.strip(" \t\n")
    branches = parse_branches(parser, "certextract")

    async def run(scope: Scope) -> str:
        wanted = await evaluate(field, scope)
        if raw[:1] != "$" or raw[1:].strip("{}") not in _VARIABLES:
            raise ExpansionError('second argument of "certextract" must be a certificate variable')
        pem = await evaluate(certificate, scope)
        found = field_of(pem, wanted) if pem else None
        if found is None:
            return await branches.decline(scope)
        value = like(found, pem)
        return await branches.accept(scope.within({"value": value}), value)

    return Lazy(run, waits=any_waits(field, certificate) or branches.waits)


def field_of(pem: str, wanted: str) -> str | None:
    """Return a field of a certificate; None if it has none, or there is no such field.

    ``wanted`` is the field's name with its modifiers, separated by commas.
    """
    from cryptography import x509

    name, *modifiers = wanted.split(",")
    reader = _FIELDS.get(name)
    if reader is None:
        return None
    separator, kinds = "\n", []
    for modifier in modifiers:
        if modifier.startswith(">"):
            separator = modifier[1:2] or ","
        elif modifier:
            kinds.append(modifier)
    try:
        found = reader(x509.load_pem_x509_certificate(pem.encode("latin-1")), kinds)
    except (ValueError, x509.ExtensionNotFound):
        return None
    if found is None or isinstance(found, str):
        return found
    return separator.join(each.replace(separator, separator * 2) for each in found) or None


def _name(of: str) -> Any:
    def read(certificate: Certificate, kinds: Sequence[str]) -> str | list[str]:
        name = getattr(certificate, of)
        if not kinds:
            return str(name.rfc4514_string())
        parts = [part for rdn in reversed(name.rdns) for part in rdn]
        return [str(part.value) for part in parts if part.rfc4514_attribute_name in kinds]

    return read


def _time(of: str) -> Any:
    def read(certificate: Certificate, kinds: Sequence[str]) -> str:
        import calendar

        moment = getattr(certificate, f"not_valid_{of}")
        seconds = calendar.timegm(moment.timetuple())
        if "int" in kinds:
            return str(seconds)
        return time.strftime("%b %e %T %Y %Z", time.localtime(seconds))

    return read


def _alternatives(certificate: Certificate, kinds: Sequence[str]) -> list[str]:
    from cryptography import x509

    tags = {x509.DNSName: "DNS", x509.UniformResourceIdentifier: "URI", x509.RFC822Name: "MAIL"}
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    found = []
    for name in extension.value:
        tag = tags.get(type(name))
        if tag is None or (kinds and tag.lower() not in kinds):
            continue
        found.append(str(name.value) if kinds else f"{tag}={name.value}")
    return found


def _responders(certificate: Certificate, kinds: Sequence[str]) -> list[str]:
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    extension = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    ocsp = AuthorityInformationAccessOID.OCSP
    return [str(a.access_location.value) for a in extension.value if a.access_method == ocsp]


def _revocation_lists(certificate: Certificate, kinds: Sequence[str]) -> list[str]:
    from cryptography import x509

    extension = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
    return [
        str(name.value)
        for point in extension.value
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    ]


def _algorithm(certificate: Certificate, kinds: Sequence[str]) -> str:
    oid = certificate.signature_algorithm_oid
    return str(getattr(oid, "_name", oid.dotted_string))


_FIELDS = {
    "version": lambda certificate, kinds: str(certificate.version.value + 1),
    "serial_number": lambda certificate, kinds: f"{certificate.serial_number:02x}",
    "subject": _name("subject"),
    "issuer": _name("issuer"),
    "notbefore": _time("before"),
    "notafter": _time("after"),
    "sig_algorithm": _algorithm,
    "signature": lambda certificate, kinds: certificate.signature.hex(),
    "subj_altname": _alternatives,
    "ocsp_uri": _responders,
    "crl_uri": _revocation_lists,
}
