"""Configurations made by rule: each option of Exim with good and bad values."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from mailsrv.config import known

VALUES = (
    *("", " = true", " = no", " = 5", " = -1", " = 5m", " = 1h30m", " = 10K", " = 0644", " = 089"),
    *(" = 3.14", " = 3.1415", " = text", ' = "quoted \\n text"', ' = "unclosed', " = root"),
    *(" = nosuchuser", " = $primary_hostname", " = ${bad", " =", " = a : b : c", " = <; a ; b"),
    *(" = *", " = 99999999999", " = 1d 2h", " = 12x", " = +foo", " = $local_part", " = ! a"),
)
_ROUTERS = {
    "accept": "",
    "dnslookup": "transport = t\n",
    "manualroute": "route_list = * h.example\ntransport = t\n",
    "redirect": "data = x@y.example\n",
}
_TRANSPORTS = {
    "appendfile": "file = /x\n",
    "autoreply": "",
    "lmtp": "socket = /x\n",
    "pipe": "command = /bin/true\n",
    "smtp": "",
}
_AUTHENTICATORS = {
    "plaintext": "public_name = PLAIN\nserver_condition = yes\n",
    "cram_md5": "public_name = CRAM-MD5\nserver_secret = x\n",
    "dovecot": "public_name = PLAIN\nserver_socket = /x\n",
}
_SECTIONS = {
    "router": ("routers", _ROUTERS),
    "transport": ("transports", _TRANSPORTS),
    "authenticator": ("authenticators", _AUTHENTICATORS),
}
_HEAD = "primary_hostname = h.example\n"
# Debian's program has no OpenSSL and no DMARC; the last is no option of a configuration.
_LEFT_OUT = {"openssl_options", "dmarc_forensic_sender", "dmarc_history_file", "dmarc_tld_file"}


def variations(share: int = 1) -> Iterator[tuple[str, str]]:
    """Yield names and texts; one in ``share`` of them, always the same."""
    for name, text in _all():
        if zlib.crc32(name.encode()) % share == 0:
            yield name, _HEAD + text


def _all() -> Iterator[tuple[str, str]]:
    for option in sorted(known.main_options() - _LEFT_OUT - {"primary_hostname"}):
        for value in VALUES:
            yield f"{option}{value}", f"{option}{value}\n"
        yield f"no_{option}", f"no_{option}\n"
        yield f"hide {option}", f"hide {option} = 5\n"
    for kind, (section, drivers) in _SECTIONS.items():
        generic = known.driver_options(kind, "") - {"driver"}
        for driver, base in drivers.items():
            private = known.driver_options(kind, driver) - generic - {"driver"}
            for option in sorted(private | (generic if driver == next(iter(drivers)) else set())):
                if option.startswith("*"):
                    continue
                kept = [line for line in base.splitlines() if line.split(" ")[0] != option]
                for value in VALUES:
                    lines = "\n".join([*kept, option + value])
                    text = f"begin {section}\nx:\ndriver = {driver}\n{lines}\n"
                    if kind == "router":
                        text += "begin transports\nt:\ndriver = smtp\n"
                    yield f"{kind} {driver}: {option}{value}", text
