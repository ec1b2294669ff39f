"""The main options: all that stands before the first ``begin`` (chapter 14).

An option of Exim that is not declared here is "known to Exim, not to mailsrv":
an error, because without it something else would happen to mail than the
configuration says.  One that changes nothing for mail has a ``no_effect``:
setting it is a warning.
"""

from __future__ import annotations

import os
from typing import ClassVar

from mailsrv.config.main.delivery import DeliveryOptions
from mailsrv.config.main.messages import MessageOptions
from mailsrv.config.main.reception import ReceptionOptions
from mailsrv.config.main.system import SystemOptions
from mailsrv.config.types import Group, User
from mailsrv.errors import ConfigError

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
        """Refuse a user whose group is not known, and a name that SMTP cannot say.

        :raises ConfigError: ``exim_user`` is a number that the password file does not have;
            ``primary_hostname`` has a character that is no printing ASCII.
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
