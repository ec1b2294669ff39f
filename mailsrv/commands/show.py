"""``mailsrv -bP``: print what is in force, as Exim does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mailsrv.commands.invocation import Invocation
from mailsrv.commands.terminal import octets, say
from mailsrv.config.dump import Dump, NotFound, NotPermitted
from mailsrv.config.model import Configuration
from mailsrv.service.environment import set_environment

_WITH_NAME = ("router", "transport", "authenticator", "macro")


def run(invocation: Invocation, configuration: Configuration) -> int:
    """Print the options, drivers, lists or macros that the arguments name; all options for none.

    Returns 1 if the last of them is not there, as Exim does; the others are printed.
    """
    dump = Dump(configuration, admin=_is_admin(configuration), names=invocation.names)
    status = 0
    for request in _requests(invocation.arguments):
        if list(request) == ["environment"]:
            _environment(configuration, names_alone=not invocation.names)
            status = 0
            continue
        try:
            for line in dump.show(request):
                say(line)
            status = 0
        except NotFound as problem:
            say(str(problem))
            status = 1
        except NotPermitted as problem:
            say(f"mailsrv: {problem}", error=True)
            return 1
    return status


def _environment(configuration: Configuration, *, names_alone: bool) -> None:
    """Print what keep_environment and add_environment leave of the environment."""
    set_environment(configuration.main)
    for name, value in os.environ.items():
        say(octets(name if names_alone else f"{name}={value}"))


def _requests(arguments: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split the words: some take the next word as a name."""
    words = list(arguments)
    if not words:
        yield ()
    while words:
        count = 2 if words[0] in _WITH_NAME and len(words) > 1 else 1
        yield words[:count]
        del words[:count]


def _is_admin(configuration: Configuration) -> bool:
    """Tell whether the caller may see hidden values: root, the server's user, admin_groups."""
    main = configuration.main
    groups = {group.gid for group in (*(main.admin_groups or ()), main.exim_group) if group}
    user = main.exim_user
    return os.getuid() in (0, user.uid if user else 0) or bool(groups & set(os.getgroups()))
