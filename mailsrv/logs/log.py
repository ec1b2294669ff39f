"""The mail log: events in, stamped lines out to files, syslog and JSON (``IMailLog``).

Writing never raises and never stops mail.  A line that no destination takes (a full disk, a
missing folder) goes to the fallback, standard error by default; ``lost`` counts such lines.
Every line has reached the kernel when a method returns.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mailsrv.errors import ConfigError
from mailsrv.logs import json, lines, selectors
from mailsrv.logs.files import LogFile, destinations, file_name
from mailsrv.logs.syslog import ALERT, INFO, NOTICE, Syslog
from mailsrv.mail.connection import Connection
from mailsrv.mail.header import Header
from mailsrv.mail.message import Message
from mailsrv.mail.routed import Outcome


class Clock(Protocol):
    """The part of a clock that a log needs."""

    def seconds(self) -> float:
        """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The main options about logs, expanded, under their names.

    ``log_as_local`` names the routers whose local deliveries show the local part alone
    (specification 15, ``log_as_local``); ``owner`` is who owns files that root makes.
    """

    spool_directory: str
    log_file_path: str = ""
    log_selector: str = ""
    log_timezone: bool = False
    timezone: str = ""  # "" is the machine's
    write_rejectlog: bool = True
    print_topbitchars: bool = False
    syslog_duplication: bool = True
    syslog_facility: str = ""
    syslog_pid: bool = True
    syslog_processname: str = "exim"
    syslog_timestamp: bool = True
    log_json: bool = False  # ours: a further file, %s is "json"
    log_as_local: frozenset[str] = field(default_factory=frozenset)
    owner: tuple[int, int] | None = None


def to_stderr(line: str) -> None:
    """Write a line that no log took to standard error."""
    print(line, file=sys.stderr, flush=True)


class MailLog:
    """Provides ``IMailLog``.

    :raises ConfigError: if the settings name a selector, facility, path or time zone that is none.
    """

    def __init__(
        self,
        settings: LogSettings,
        clock: Clock,
        *,
        fallback: Callable[[str], None] = to_stderr,
        syslog_socket: str = "/dev/log",
    ) -> None:
        self.lost = 0
        self._clock = clock
        self._fallback = fallback
        self._syslog_socket = syslog_socket
        self._files: dict[str, LogFile] = {}
        self._syslog: Syslog | None = None
        self.renew(settings)

    def renew(self, settings: LogSettings) -> None:
        """Go on with other settings; files are opened anew.

        :raises ConfigError: as the constructor; then nothing has changed.
        """
        chosen = selectors.parse(settings.log_selector)
        path, use_syslog = destinations(settings.log_file_path, settings.spool_directory)
        zone = _zone(settings.timezone)
        syslog = (
            Syslog(
                settings.syslog_facility,
                settings.syslog_processname,
                with_pid=settings.syslog_pid,
                path=self._syslog_socket,
            )
            if use_syslog
            else None
        )
        self.close()
        self._settings, self._selectors, self._path = settings, chosen, path
        self._syslog, self._zone = syslog, zone
        self._files = {
            stream: LogFile(settings.owner) for stream in ("main", "reject", "panic", "json")
        }
        self._named, self._names = (
            -1,
            dict[str, str](),
        )  # the second in which files have their names
        self._stamped = (-1, "", "")  # the second that was formatted last, its text and its zone

    # --- events ---------------------------------------------------------------

    def received(self, message: Message, *, bounce_of: str = "", seconds: float = -1) -> None:
        """Log an accepted message (``<=``)."""
        self._event(message.id, lines.received(message, self._selectors, bounce_of, seconds))
        if self._settings.log_json:
            self._json("received", json.received(message, bounce_of))

    def delivered(self, message: Message, outcome: Outcome, *, additional: bool = False) -> None:
        """Log a delivered address (``=>``, ``->``)."""
        if outcome.address.quiet:  # disable_logging
            return
        now = self._clock.seconds()
        over_network = outcome.host is not None and not outcome.host.address.startswith("/")
        local = outcome.address.router in self._settings.log_as_local
        local = local and not (outcome.remote or over_network)
        self._event(
            message.id,
            lines.delivered(
                message, outcome, self._selectors, now, additional=additional, as_local=local
            ),
        )
        if self._settings.log_json:
            self._json("delivered", json.outcome(message, outcome, now))

    def deferred(self, message: Message, outcome: Outcome) -> None:
        """Log a delivery to be tried again (``==``)."""
        if outcome.address.quiet:  # disable_logging
            return
        self._event(message.id, lines.deferred(message, outcome, self._selectors))
        if self._settings.log_json:
            self._json("deferred", json.outcome(message, outcome, self._clock.seconds()))

    def failed(self, message: Message, outcome: Outcome) -> None:
        """Log a delivery that failed for good (``**``)."""
        if outcome.address.quiet:  # disable_logging
            return
        self._event(message.id, lines.failed(message, outcome, self._selectors))
        if self._settings.log_json:
            self._json("failed", json.outcome(message, outcome, self._clock.seconds()))

    def completed(self, message: Message) -> None:
        """Log that the queue is done with a message."""
        now = self._clock.seconds()
        self._event(message.id, lines.completed(message, self._selectors, now))
        if self._settings.log_json:
            self._json("completed", {"id": message.id})

    def rejected(
        self, connection: Connection, what: str, text: str, headers: Sequence[Header] = ()
    ) -> None:
        """Log a refusal to the main and the reject log; the latter with the header, if known."""
        line = lines.rejected(connection, what, text, self._selectors)
        id = connection.transaction.id if connection.transaction and headers else ""
        below: list[str] = []
        if headers and "rejected_header" in self._selectors:
            below = lines.rejected_headers(connection, list(headers))
        self._write(self._stamp(id) + line, "main", below, also="reject")
        if self._settings.log_json:
            self._json("rejected", json.rejected(connection, what, text))

    def main(self, text: str, message_id: str = "", *, rejection: bool = False) -> None:
        """Log any other line; a ``rejection`` also to the reject log."""
        self._write(self._stamp(message_id) + text, "main", also="reject" if rejection else "")
        if self._settings.log_json:
            self._json("note", {"id": message_id, "text": text})

    def reject(self, text: str, message_id: str = "") -> None:
        """Log a line to the reject log alone (``logwrite = :reject:``)."""
        if not self._settings.write_rejectlog:
            return
        self._write(self._stamp(message_id) + text, "reject")
        if self._settings.log_json:
            self._json("note", {"id": message_id, "text": text})

    def selected(self, selector: str) -> bool:
        """Tell whether a log selector is on."""
        return selector in self._selectors

    def panic(self, text: str, failure: BaseException | None = None) -> None:
        """Log what must not happen; the panic log has the traceback too."""
        below: list[str] = []
        if failure is not None:
            trace = "".join(traceback.format_exception(failure))
            below = trace.rstrip("\n").split("\n")
            text = f"{text}: {type(failure).__name__}: {failure}"
        self._write(self._stamp("") + text, "main", below, also="panic")
        if self._settings.log_json:
            self._json("panic", {"text": text})

    def reopen(self) -> None:
        """Close all files, so that the next line opens them anew (SIGUSR1, log rotation)."""
        for file in self._files.values():
            file.close()

    def close(self) -> None:
        """Close files and syslog at the end."""
        self.reopen()
        if self._syslog is not None:
            self._syslog.close()

    # --- lines ----------------------------------------------------------------

    def _event(self, id: str, text: str) -> None:
        self._write(self._stamp(id) + text, "main")

    def _json(self, event: str, fields: json.Fields) -> None:
        if self._path is not None:
            self._to_file("json", json.record(event, self._clock.seconds(), fields))

    def _stamp(self, id: str) -> str:
        """Return time, pid and message id as they stand before a line."""
        now = self._clock.seconds()
        second, text, zone = self._stamped
        if int(now) != second:
            moment = datetime.fromtimestamp(int(now), self._zone).astimezone(self._zone)
            text, zone = moment.strftime("%Y-%m-%d %H:%M:%S"), moment.strftime(" %z")
            self._stamped = (int(now), text, zone)
        if "millisec" in self._selectors:
            text += f".{int(now * 1000) % 1000:03d}"
        if self._settings.log_timezone:
            text += zone
        if "pid" in self._selectors:
            text += f" [{os.getpid()}]"
        return f"{text} {id} " if id else f"{text} "

    def _write(self, line: str, stream: str, below: Sequence[str] = (), also: str = "") -> None:
        """Write a line to a stream, and to a second one with further lines below it."""
        top_bit = self._settings.print_topbitchars
        line = lines.printable(line, top_bit)
        full = line
        if below:
            full = "\n".join([line, *(lines.printable(text, top_bit) for text in below)])
        if also == "reject" and not self._settings.write_rejectlog:
            also = ""
        taken = False
        if self._path is not None:
            taken = self._to_file(stream, line)
            if also:
                taken = self._to_file(also, full) or taken
        if self._syslog is not None:
            taken = self._to_syslog(stream, line, full, also) or taken
        if not taken:
            self.lost += 1
            self._fall_back(full)

    def _to_file(self, stream: str, text: str) -> bool:
        assert self._path is not None
        now = self._clock.seconds()
        name = self._file_name(stream, int(now))
        try:
            self._files[stream].write(name, (text + "\n").encode("latin-1", "replace"), now)
        except OSError:
            self._files[stream].close()
            return False
        return True

    def _file_name(self, stream: str, second: int) -> str:
        """Return the name of a stream's file now."""
        assert self._path is not None
        if self._named != second:
            self._named, self._names = second, {}
        if stream not in self._names:
            self._names[stream] = file_name(self._path, stream, time.localtime(second))
        return self._names[stream]

    def _to_syslog(self, stream: str, line: str, full: str, also: str) -> bool:
        """Send an entry at the priorities of its streams (53.4); once if duplication is off."""
        assert self._syslog is not None
        entries = [(NOTICE if stream == "reject" else INFO, line)]
        if also:
            second = (ALERT if also == "panic" else NOTICE, full)
            entries = [*entries, second] if self._settings.syslog_duplication else [second]
        now = self._clock.seconds()
        skip = 0 if self._settings.syslog_timestamp else self._stamp_length()
        try:
            for priority, text in entries:
                self._syslog.write(priority, text[skip:], now)
        except OSError:
            return False
        return True

    def _stamp_length(self) -> int:
        """Octets of the date and time that begin every line."""
        length = len("2002-12-19 16:20:23 ")
        length += len(".123") if "millisec" in self._selectors else 0
        return length + (len(" +0100") if self._settings.log_timezone else 0)

    def _fall_back(self, text: str) -> None:
        try:
            self._fallback(text)
        except OSError:
            pass  # standard error is gone too: the count is all that is left


def _zone(name: str) -> tzinfo | None:
    """Return the time zone of that name; None is the machine's.

    :raises ConfigError: if the machine knows no such zone.
    """
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f'timezone: "{name}" is not known on this machine') from None
