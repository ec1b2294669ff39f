"""Where a message comes from: the facts of its connection, kept with it in the spool."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter


@dataclass(slots=True)
class Origin:
    """The facts about the sending host and session (specification 11.9, ``$sender_host_…``).

    The connection owns and changes its Origin; a message keeps a copy of its
    own (:meth:`snapshot`).  An empty string or 0 means "not known".
    """

    host_address: str = ""  # IP address without port; "" for local submission
    host_port: int = 0
    host_name: str = ""  # looked up and verified; "" until then
    helo_name: str = ""
    helo_verified: bool = False
    interface_address: str = ""
    interface_port: int = 0
    ident: str = ""  # RFC 1413 ident, or the login name of a local sender
    protocol: str = (
        "smtp"  # $received_protocol: smtp, esmtp, esmtps, esmtpa, esmtpsa, lmtp, local ...
    )
    authenticator: str = ""  # name of the authenticator that succeeded
    authenticated_id: str = ""
    authenticated_sender: str = ""  # AUTH= on MAIL
    tls_version: str = ""  # for example TLS1.3, as $tls_in_ver
    tls_cipher: str = ""  # as $tls_in_cipher, for example TLS1.3:TLS_AES_256_GCM_SHA384:256
    tls_bits: int = 0
    tls_peer_dn: str = ""
    tls_sni: str = ""
    tls_certificate_verified: bool = False
    acl_c: dict[str, str] = field(default_factory=dict)  # $acl_c…, keyed without "acl_"

    def snapshot(self) -> Origin:
        """Return a copy that no later command of the connection changes."""
        result = Origin(*_values(self))
        result.acl_c = dict(self.acl_c)
        return result


_values = attrgetter(*(field.name for field in fields(Origin)))
