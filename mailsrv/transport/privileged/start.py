"""Starting the privileged process, as root, before the serving processes drop root."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import mailsrv
from mailsrv.transport.privileged.policy import Policy

_PROGRAM = """\
import sys
sys.path.append(sys.argv[1])
from mailsrv.transport.privileged.process import main
main(sys.argv[2:])
"""


def start(policy: Policy, serving: int = 1) -> list[socket.socket]:
    """Start the process; return a channel for each of ``serving`` processes.

    It ends when all of them are closed, in every process that has them.

    :raises OSError: it cannot be started.
    """
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(serving)]
    theirs = [their_end for _, their_end in pairs]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, os.path.dirname(mailsrv.__path__[0]),
             *(str(each.fileno()) for each in theirs)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            pass_fds=[each.fileno() for each in theirs], start_new_session=True,
        )  # fmt: skip
    except BaseException:
        for ours, _ in pairs:
            ours.close()
        raise
    finally:
        for each in theirs:
            each.close()
    assert process.stdin is not None
    with process.stdin as policy_to:
        policy_to.write(policy.packed().encode("ascii"))
    return [ours for ours, _ in pairs]
