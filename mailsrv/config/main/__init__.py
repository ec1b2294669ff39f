"""The main options: all that stands before the first ``begin`` (chapter 14).

An option of Exim that is not declared here is "known to Exim, not to mailsrv":
an error, because without it something else would happen to mail than the
configuration says.  One that changes nothing for mail has a ``no_effect``:
setting it is a warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from mailsrv.config.main.delivery import DeliveryOptions
from mailsrv.config.main.messages import MessageOptions
from mailsrv.config.main.reception import ReceptionOptions
from mailsrv.config.main.system import SystemOptions
from mailsrv.config.types import Group, User
from mailsrv.errors import ConfigError
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.template import Template

DEFAULT_USER = "mailsrv"
FIXED_NEVER_USERS = (0,)  # uids that no delivery runs as, whatever never_users says


class MainOptions(ReceptionOptions, MessageOptions, DeliveryOptions, SystemOptions):
    """The main options of a configuration."""

    kind: ClassVar[str] = "main"

    def complete(self) -> None:
        """Fill in what is derived from the machine or from other options."""
        if not self.primary_hostname:
            self.values["primary_hostname"] = machine_name()
        if not self.qualify_domain:
            self.values["qualify_domain"] = self.primary_hostname
        if not self.qualify_recipient:
            self.values["qualify_recipient"] = self.qualify_domain
        if "workers" not in self.values:
            self.values["workers"] = len(os.sched_getaffinity(0))
        user = self.exim_user or User.called(DEFAULT_USER)
        self.values["exim_user"] = user
        if self.exim_group is None:
            named = None if user.gid is None else Group.called(str(user.gid))
            self.values["exim_group"] = named or Group(user.name)

    def check(self) -> None:
        """Refuse combinations and values that cannot work.

        :raises ConfigError: among them a user whose group is not known, and a name that SMTP
            cannot say.
        """
        name = self.primary_hostname or ""
        if not all("!" <= character <= "~" for character in name):
            place = self.places.get("primary_hostname")
            hint = "write an international name in its xn-- form"
            raise ConfigError(f"primary_hostname {name!a} is not a name in ASCII", place, hint)
        user, group, where = self.exim_user, self.exim_group, self.places.get("exim_user")
        if where is not None and user is not None and (group is None or group.gid is None):
            problem = f"exim_group must be set, for user {user.name} is not in the password file"
            raise ConfigError(problem, where)
        for option, problem in self._problems():
            raise ConfigError(problem, self.places.get(option))

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        if reason := _bad_pattern(self.gecos_pattern):
            yield ConfigError(f"gecos_pattern: {reason}", self.places.get("gecos_pattern"))

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Yield options with what is wrong with them, as Exim says when it has read the file."""
        if self.local_sender_retain and self.local_from_check:
            yield (
                "local_sender_retain",
                "local_from_check must be false if local_sender_retain is true",
            )
        number = self.localhost_number.constant if self.localhost_number else None
        if number and not (number.isascii() and number.isdigit() and int(number) <= 16):
            yield "localhost_number", "localhost_number: a number from 0 to 16 is wanted"
        if self.tls_dh_max_bits < 1024:
            yield "tls_dh_max_bits", "tls_dh_max_bits is too small, it must be at least 1024"
        if self.gecos_name is not None and (reason := _bad_pattern(self.gecos_pattern)):
            yield "gecos_pattern", f"gecos_pattern: {reason}"
        for option in ("uucp_from_pattern", "dns_check_names_pattern"):
            if reason := _bad_pattern(self.values.get(option)):
                yield option, f"{option}: {reason}"
        for option in ("localhost_number", "pid_file_path", "smtp_active_hostname"):
            value = self.values.get(option)
            if isinstance(value, Template) and value.error is not None:
                yield option, f"{option}: {value.error.shown}"


def _bad_pattern(pattern: str | None) -> str:
    """Return what is wrong with a regular expression; "" if nothing is."""
    try:
        compile_regex(pattern or "")
    except ExpansionError as error:
        return error.reason
    return ""


def machine_name() -> str:
    """Return the name of this machine, with its domain if it knows that."""
    name = os.uname().nodename
    if "." in name:
        return name
    import socket

    try:
        found = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)
    except OSError:
        return name
    canonical = next((entry[3] for entry in found if entry[3]), name)
    return canonical if canonical.split(".")[0] == name else name
