"""``mailsrv -be``."""

from __future__ import annotations

import io
import os
import pwd
import sys
from tempfile import TemporaryDirectory
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.main import main

CONFIGURATION = """\
primary_hostname = mail.example.com
HOST = h.example
domainlist local = a.example : *.b.example
begin acl
hello:
  accept message = hello $acl_arg1
no:
  deny
"""


class ExpandTests(SynchronousTestCase):
    def run_command(
        self,
        *strings: str,
        given: str = "",
        command: tuple[str, ...] = ("-be",),
        status: int = 0,
    ) -> str:
        with TemporaryDirectory() as folder:
            file = os.path.join(folder, "exim.conf")
            with open(file, "w", encoding="ascii") as stream:
                stream.write(CONFIGURATION)
            out = io.StringIO()
            stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
            with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stdin", stdin):
                self.assertEqual(main(["-C", file, *command, *strings]), status)
        return out.getvalue()

    def test_arguments(self) -> None:
        """Each argument is expanded, a failure is printed as one."""
        said = self.run_command("$primary_hostname", "${nosuch:x}", "${if eq{a}{b}{x}fail}")
        self.assertEqual(
            said,
            'mail.example.com\nFailed: unknown expansion operator "nosuch"\n'
            'Failed: "if" failed and "fail" requested\n',
        )

    def test_lines(self) -> None:
        """Without arguments the lines of the standard input are; "\\" at the end joins two."""
        said = self.run_command(given="${lc:AB\\\n   C}\n$1x\n  lead\nend\\\n")
        self.assertEqual(said, "> abc\n> x\n>   lead\n> end\n> \n")

    def test_how_it_came_to_it(self) -> None:
        """-v explains on the standard error; the results are as without it."""
        errors = io.StringIO()
        with mock.patch.object(sys, "stderr", errors):
            said = self.run_command("${lc:A${uc:b}}", "x ${nosuch:x}", command=("-be", "-v"))
        self.assertEqual(said, 'ab\nFailed: unknown expansion operator "nosuch"\n')
        self.assertEqual(
            errors.getvalue(),
            '${lc:A${uc:b}}  ->  "ab"\n  ${uc:b}  ->  "B"\nat character 3: "${nosuch:x}"\n',
        )

    def test_macros(self) -> None:
        """Lines that begin with a capital define macros; those of the file are there, too."""
        said = self.run_command(given="a HOST b\nNEW = x\n[NEW]\nNEW == y\n[NEW]\n")
        defined = "> Defined macro 'NEW'\n"
        self.assertEqual(said, f"> a h.example b\n{defined}> [x]\n{defined}> [y]\n> \n")
        said = self.run_command("x BB HOST", command=("-DBB=7", "-be"))
        self.assertEqual(said, "x 7 h.example\n")
        self.assertEqual(self.run_command("[HOST]", "Hello"), "[h.example]\n")

    def test_the_caller(self) -> None:
        user = pwd.getpwuid(os.getuid()).pw_name
        self.assertEqual(
            self.run_command("$sender_address|$sender_ident|$caller_uid|$sender_rcvhost"),
            f"{user}@mail.example.com|{user}|{os.getuid()}|\n",
        )

    def test_a_message(self) -> None:
        """What Exim 4.96 prints for this message."""
        with TemporaryDirectory() as folder:
            path = os.path.join(folder, "message")
            with open(path, "w", encoding="ascii") as stream:
                stream.write("From: a@b\nTo: c@d, e\nSubject: hello  world\n\nbody line\n")
            self.assertEqual(
                self.run_command(
                    "$h_subject:|$message_size|$header_from:|$message_body|$message_body_size",
                    "[$recipients]",
                    command=("-bem", path),
                ),
                "hello  world|54|a@b|body line |10\n[]\n",
            )
            self.assertEqual(
                self.run_command("$recipients", command=("-t", "-bem", path)),
                "c@d, e@mail.example.com\n",
            )
            made = self.run_command("[$message_headers]", "$h_message-id:", command=("-bem", path))
            self.assertRegex(made, r"(?s)\A\[From: .*[^\n]\]\n<E[^\n]+@mail.example.com>\n\Z")

    def test_what_a_message_has_before_and_beside_its_header(self) -> None:
        """A From line, Return-path:, Received:, no end of the last line: as Exim 4.96 prints it."""
        message = (
            "From alice@a.example Fri Nov 27 10:00:00 2026\nReturn-path: <ret@x.example>\n"
            "Received: from a by b\n\tid 1\nFrom: Alice <alice@a.example>\nSubject: x\n\n"
            "one\n\n.two\nlast"
        )
        names = (
            "$sender_address $return_path $received_count $message_linecount $body_linecount "
            "$message_size $message_body_size $max_received_linelength [$authenticated_sender]"
        )
        with TemporaryDirectory() as folder:
            path = os.path.join(folder, "message")
            with open(path, "w", encoding="ascii") as stream:
                stream.write(message)
            said = self.run_command(names, command=("-bem", path))
            self.assertEqual(
                said,
                'Sender taken from "From " line\n'
                'Return-path taken from "Return-path:" header line\n'
                f"alice@a.example ret@x.example 2 10 3 {len(message)} 14 45 []\n",
            )
            said = self.run_command(
                "$sender_address $message_headers", command=("-f", "s@q.example", "-bem", path)
            )
            self.assertRegex(said, r"(?s)line\ns@q.example Received: from a by b\n\tid 1\nFrom: A")
            self.assertNotIn("Sender taken", said)
            with open(path, "wb") as file:
                file.write(b"Subject: x\r\n\r\none\r\ntwo\r\n")
            said = self.run_command(
                "$message_body_size ${escape:$message_body} $h_subject:",
                "${escape:$message_headers}",
                command=("-f", "s@q.example", "-bem", path),
            )
            self.assertRegex(said, r"\A10 one\\r two\\r  x\n.*\\nFrom: s@q.example\\nDate: ")
            open(path, "w", encoding="ascii").close()
            said = self.run_command("$message_linecount", command=("-bem", path))
            self.assertEqual(said, "Warning: no message headers read\n1\n")

    def test_no_message(self) -> None:
        self.assertEqual(self.run_command("x", command=("-bem", "/nonexistent"), status=1), "")

    def test_environment_is_the_server_s(self) -> None:
        """What keep_environment does not name is not to be seen."""
        with mock.patch.dict(os.environ, {"SECRET_OF_ROOT": "x"}):
            said = self.run_command("<${env{SECRET_OF_ROOT}{$value}{none}}>")
        self.assertEqual(said, "<none>\n")

    def test_acls(self) -> None:
        """They can be called, though there is no client; what they verify is deferred."""
        said = self.run_command("${acl{hello}{x}}", "<${if acl{{no}}{yes}{no}}>", "${acl{nosuch}}")
        self.assertEqual(said.splitlines()[:2], ["hello x", "<no>"])
        self.assertTrue(said.splitlines()[2].startswith("Failed: "))

    def test_named_lists(self) -> None:
        """The configuration's lists are known."""
        said = self.run_command("${if match_domain{x.b.example}{+local}{$value}{no}}")
        self.assertEqual(said, "*.b.example\n")
