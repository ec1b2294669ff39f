"""The main options that the SMTP server honours, as one value (specification chapter 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mailsrv.expansion.template import Template, compile_string

# The banner, the Received: line and the like, where a configuration sets none.
_BANNER = "$smtp_active_hostname ESMTP Exim $version_number $tod_full"

BARE_NEWLINE_ACTIONS = ("reject", "mend")


@dataclass(slots=True)
class ServerSettings:
    """Options by Exim's names; a Template is expanded for each connection, None is "not set".

    ``smtp_bare_newline`` is ours: ``reject`` refuses (550) a message with a CR
    or LF that stands alone, or a NUL; ``mend`` makes CRLF of the former and
    drops the latter.
    """

    primary_hostname: str = "localhost"
    qualify_domain: str = ""
    qualify_recipient: str = ""
    spool_directory: str = ""
    smtp_banner: Template | None = None
    smtp_active_hostname: Template | None = None
    smtp_accept_max: int = 0
    smtp_accept_max_nonmail: int = 10
    smtp_accept_max_nonmail_hosts: Template | None = None
    smtp_accept_max_per_connection: Template | None = None
    smtp_accept_max_per_host: Template | None = None
    smtp_accept_reserve: int = 0
    smtp_reserve_hosts: Template | None = None
    smtp_connect_backlog: int = 20
    smtp_enforce_sync: bool = True
    smtp_max_synprot_errors: int = 3
    smtp_max_unknown_commands: int = 3
    smtp_receive_timeout: Template | None = None
    smtp_bare_newline: str = "reject"
    host_lookup: Template | None = None
    host_reject_connection: Template | None = None
    hosts_connection_nolog: Template | None = None
    message_size_limit: Template | None = None
    recipients_max: int = 50000
    recipients_max_reject: bool = False
    sender_unqualified_hosts: Template | None = None
    recipient_unqualified_hosts: Template | None = None
    allow_domain_literals: bool = False
    accept_8bitmime: bool = True
    auth_advertise_hosts: Template | None = None
    chunking_advertise_hosts: Template | None = None
    dsn_advertise_hosts: Template | None = None
    pipelining_advertise_hosts: Template | None = None
    smtputf8_advertise_hosts: Template | None = None
    tls_advertise_hosts: Template | None = None
    helo_accept_junk_hosts: Template | None = None
    helo_allow_chars: str = ""
    helo_lookup_domains: Template | None = None
    helo_try_verify_hosts: Template | None = None
    helo_verify_hosts: Template | None = None
    received_header_text: Template | None = None
    received_headers_max: int = 30
    header_maxsize: int = 1048576
    header_line_maxsize: int = 0
    return_path_remove: bool = True
    envelope_to_remove: bool = True
    delivery_date_remove: bool = True
    check_spool_space: int = 10485760
    check_spool_inodes: int = 100

    @classmethod
    def from_options(cls, main: Any, **computed: Any) -> ServerSettings:
        """Take the values of ``configuration.main``; an option that it lacks keeps its default.

        ``computed`` are values that are known only at start and go before the
        options: ``primary_hostname``, ``spool_directory`` expanded ...
        """
        settings = cls()
        for name in cls.__slots__:
            value = computed.get(name, getattr(main, name, None))
            if isinstance(value, Template) and isinstance(getattr(settings, name), str):
                value = value.constant  # this server does not expand it; build does if it must
            if value is not None:
                setattr(settings, name, value)
        if settings.smtp_banner is None:
            settings.smtp_banner = compile_string(_BANNER)
        settings.qualify_domain = settings.qualify_domain or settings.primary_hostname
        settings.qualify_recipient = settings.qualify_recipient or settings.qualify_domain
        return settings
