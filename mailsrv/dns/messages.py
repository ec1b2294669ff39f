"""Builds queries of the DNS and reads answers, with dnspython.  Pure: no sockets, no clock.

Whatever a server sends, :func:`read` gives a :class:`Reply` or None, and
raises nothing.  Records are values from the network: they are tainted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from mailsrv.interfaces import Answer, TextRecord
from mailsrv.mail.taint import Tainted

PAYLOAD = 1232
"""Octets that an answer over UDP may have without being fragmented (DNS flag day 2020)."""

LONGEST_TTL = 86400
LONGEST_NEGATIVE_TTL = 10800  # RFC 2308, section 5


class BadName(ValueError):
    """The text cannot be a name in the DNS (empty or over-long label, over-long name)."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question ready to be sent."""

    wire: bytes
    message: dns.message.QueryMessage

    @property
    def id(self) -> bytes:
        """The two octets that the answer must begin with."""
        return self.wire[:2]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said to a query.

    ``answer`` is None if it could not or would not answer: ``problem`` says
    why.  ``alias`` is the name that it left us with: CNAMEs led there, and
    nothing was said about it.  ``truncated`` asks for TCP; ``refuses_edns``
    for a query without EDNS.
    """

    answer: Answer | None = None
    problem: str = ""
    alias: str = ""
    truncated: bool = False
    refuses_edns: bool = False


def build(name: str, rdtype: str, *, edns: bool = True) -> Query:
    """Build a query with a random id.

    :raises BadName: ``name`` cannot be asked for.
    :raises ValueError: there is no such record type.
    """
    try:
        labels = [*name.encode("latin-1").removesuffix(b".").split(b"."), b""]
        question = dns.name.Name(labels if labels != [b"", b""] else [b""])
        kind = dns.rdatatype.from_text(rdtype)
    except dns.rdatatype.UnknownRdatatype:
        raise ValueError(f"unknown record type {rdtype}") from None
    except (dns.exception.DNSException, ValueError) as error:
        raise BadName(str(error)) from None
    message = dns.message.make_query(question, kind)
    message.flags |= dns.flags.AD  # RFC 6840, section 5.7: tell us whether it is validated
    if edns:
        message.use_edns(0, payload=PAYLOAD)
    return Query(message.to_wire(), message)


def read(query: Query, data: bytes) -> Reply | None:
    """Read what came in answer to ``query``; None if it is no answer to it."""
    if len(data) < 12 or data[:2] != query.id:
        return None
    if data[2] & 0x02:  # TC: what follows may end anywhere
        return Reply(problem="truncated", truncated=True)
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
        if not query.message.is_response(message):
            return None
        rcode = message.rcode()
        if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            refuses = rcode in (dns.rcode.FORMERR, dns.rcode.NOTIMP)
            return Reply(problem=dns.rcode.to_text(rcode), refuses_edns=refuses)
        if not isinstance(message, dns.message.QueryMessage):
            return None
        return _answered(message)
    except Exception as error:  # any octets may come: none of them may do more harm than this
        return Reply(problem=f"malformed answer ({type(error).__name__})")


def _answered(message: dns.message.QueryMessage) -> Reply:
    """Follow the CNAMEs of an answer to its records."""
    chain = message.resolve_chaining()
    authenticated = bool(message.flags & dns.flags.AD)
    if chain.answer is None:
        ttl = chain.minimum_ttl if message.authority else 0  # no SOA: not to be kept
        exists = message.rcode() == dns.rcode.NOERROR
        left = exists and chain.cnames and not message.authority
        if left:
            ttl = chain.minimum_ttl
        answer = Answer((), exists, authenticated, min(ttl, LONGEST_NEGATIVE_TTL))
        return Reply(answer, alias=_wire_name(chain.canonical_name) if left else "")
    records = tuple(_record(rdata) for rdata in chain.answer)
    return Reply(Answer(records, True, authenticated, min(chain.minimum_ttl, LONGEST_TTL)))


def _wire_name(name: dns.name.Name) -> str:
    """Return a name as :func:`build` takes it: its octets, as they are."""
    return b".".join(name.labels).decode("latin-1").lower()


def _record(rdata: Any) -> Tainted:
    """Return a record as ``Answer`` defines it."""
    if rdata.rdtype in (dns.rdatatype.TXT, dns.rdatatype.SPF):
        return TextRecord.of(tuple(part.decode("latin-1") for part in rdata.strings))
    return Tainted(_text(rdata))


def _text(rdata: Any) -> str:
    """Return the text of a record."""
    match dns.rdatatype.to_text(rdata.rdtype):
        case "MX":
            return f"{rdata.preference} {_name(rdata.exchange)}"
        case "PTR" | "CNAME" | "NS" | "DNAME":
            return _name(rdata.target)
        case "SRV":
            return f"{rdata.priority} {rdata.weight} {rdata.port} {_name(rdata.target)}"
    return str(rdata.to_text())


def _name(name: dns.name.Name) -> str:
    """Return a name without final dot (the root stays ``.``); odd octets are escaped."""
    return name.to_text(omit_final_dot=True)
