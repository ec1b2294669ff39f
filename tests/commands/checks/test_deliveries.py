"""Routers and transports that can only defer."""

from __future__ import annotations

from tests.commands.checks.case import CheckTestCase

REDIRECT = "begin routers\nr:\n driver = redirect\n data = "
ROUTER = "begin routers\nr:\n driver = accept\n transport = t\n"
BOX = "begin transports\nt:\n driver = appendfile\n"


class DeliveryTests(CheckTestCase):
    def test_found(self) -> None:
        for text, problem in {
            f"{REDIRECT}:fail: gone": "^4: router r: :fail: is not permitted",
            f"{REDIRECT}${{if eq{{$domain}}{{x}}{{:Defer: later}}}}\n allow_fail": "^4: .* :defer:",
            f"{REDIRECT}|/bin/x": "^4: router r: pipe_transport is not set",
            f"{REDIRECT}/var/x": "^4: router r: file_transport is not set",
            f"{REDIRECT}/var/x/\n file_transport = t\n{BOX}": "^4: router r: directory_transport",
            f"{REDIRECT}|/bin/x\n pipe_transport = t\n forbid_pipe\n{BOX}": "^4: .* is forbidden",
            f"{ROUTER}{BOX}": "^6: transport t has no file and no directory.* router r",
            f"{ROUTER}{BOX} file = mail/x": "^8: file of transport t is no absolute path",
            f"{ROUTER}begin transports\nt:\n driver = lmtp\n socket = run/x": "^8: socket of",
        }.items():
            self.one(text, problem)

    def test_not_found(self) -> None:
        for text in (
            f"{REDIRECT}:fail: gone\n allow_fail",
            f"{REDIRECT}${{if eq{{x}}{{y}}{{:defer: later}}}}",
            f"{REDIRECT}:blackhole:",
            f"{REDIRECT}|/bin/x\n pipe_transport = t\n{BOX}",
            f"{REDIRECT}/var/x\n file_transport = t\n{BOX}",
            f"{REDIRECT}a@b.example",
            f"{ROUTER}{BOX} file = /mail/x",
            f"{ROUTER}{BOX} directory = $home/Maildir\n maildir_format",
            f"{ROUTER}{BOX} file = ${{if eq{{$domain}}{{x}}{{/a}}{{/b}}}}",
        ):
            self.assertEqual(self.found(text), [], text)
