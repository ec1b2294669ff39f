"""Whole configurations: options, named lists, sections, drivers, all errors in one run."""

from __future__ import annotations

from typing import cast
from unittest import mock

from mailsrv.config.known import main_options
from mailsrv.config.main import MainOptions
from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import EXPANDED, STRING
from mailsrv.errors import ConfigError
from mailsrv.expansion.template import Template
from tests.config.files import FileTestCase

ROUTER = "begin routers\nr1:\n driver = accept\n transport = t1\n"
TRANSPORT = "begin transports\nt1:\n driver = lmtp\n socket = /run/lmtp\n"


class MainSectionTests(FileTestCase):
    def test_each_way_to_set_a_boolean(self) -> None:
        for text, expected in {
            "queue_only": True,
            "no_queue_only": False,
            "not_queue_only": False,
            "queue_only = yes": True,
            "queue_only = FALSE": False,
            "queue_only =": True,
            "hide queue_only": True,
        }.items():
            self.assertIs(self.read(text).main.queue_only, expected, text)

    def test_values_are_typed_and_their_places_known(self) -> None:
        main = self.read('\nrecipients_max = 2K\nhost_lookup = "<; a ; b"').main
        self.assertEqual(main.recipients_max, 2048)
        self.assertEqual(cast(Template, main.host_lookup).source, "<; a ; b")
        self.assertEqual(main.places["host_lookup"].line, 3)

    def test_other_names_of_an_option(self) -> None:
        self.assertEqual(self.read("daemon_smtp_port = 25").main.daemon_smtp_ports, "25")

    def test_faulty_settings(self) -> None:
        for text, problem in {
            "queue_only = maybe": '"maybe" is not a valid boolean value for queue_only',
            "no_queue_only = yes": "extra characters follow boolean option no_queue_only",
            "queue_only yes": "extra characters follow boolean option queue_only",
            "no_host_lookup": "negation prefix applied to a non-boolean option",
            "host_lookup": "unexpected end of line (data missing) after host_lookup",
            "host_lookup a": 'missing "=" after host_lookup',
            'host_lookup = "a': "missing quote at end of string value for host_lookup",
            "queue_only\nno_queue_only": '"no_queue_only" option set for the second time',
            "= x": "option setting expected: = x",
            "hide": 'the option is missing after "hide"',
            "recipients_max = x": "integer expected for recipients_max",
            "exim_user = nosuchuser": "user nosuchuser was not found for exim_user",
            "exim_user = 4242": "exim_group must be set, for user 4242 is not in the password file",
            "primary_hostname = m\xfcller.example": "primary_hostname 'm\\xfcller.example' is not",
            "smtp_receive_timeout = 5": "invalid time value for smtp_receive_timeout",
            "local_sender_retain": "local_from_check must be false if local_sender_retain is true",
            "localhost_number = x": "localhost_number: a number from 0 to 16 is wanted",
            "tls_dh_max_bits = 512": "tls_dh_max_bits is too small, it must be at least 1024",
            "uucp_from_pattern = ^[": "uucp_from_pattern: regular expression error",
            "localhost_number = ${if": "localhost_number: ",
            f"{'X' * 64} = x": "macro name too long",
            "smtp_active_hostname = $nosuch": "smtp_active_hostname: unknown variable name",
            "errors_reply_to = x": '"x" does not contain a domain for errors_reply_to',
        }.items():
            errors = self.errors(text)
            self.assertEqual(len(errors), 1, text)
            self.assertIn(problem, errors[0])
            self.assertRegex(errors[0], r"^line \d of exim.conf: ")

    def test_values_that_are_found_bad_when_they_are_used(self) -> None:
        """Exim takes them when it reads the file."""
        for text, problem in {
            "message_size_limit = 5x": 'message_size_limit: "5x" is not a number',
            "smtp_accept_max_per_connection = x": 'smtp_accept_max_per_connection: "x" is not a nu',
            "smtp_accept_max_per_host = x": 'smtp_accept_max_per_host: "x" is not a number',
            "spool_directory = rel": 'spool_directory: "rel" is not an absolute path',
            "smtp_banner = ${if": "smtp_banner: ",
            "domainlist x = ${if": "domainlist x: ",
            "begin acl\na:\n deny message = ${if": "message: ",
            "begin acl\na:\n accept control = nosuch": 'syntax error in "control=nosuch"',
        }.items():
            (error,) = self.read(text).late
            self.assertIn(problem, str(error))
            self.assertRegex(str(error), r"^line \d of .*exim.conf: ")

    def test_unknown_options(self) -> None:
        self.assertEqual(
            self.errors("hosts_lookup = 5\nibase_servers = /x\nno_disable_fsync\nxyzzy = 1"),
            [
                'line 1 of exim.conf: main option "hosts_lookup" unknown '
                "(did you mean host_lookup or host_lookup_order?)",
                'line 2 of exim.conf: main option "ibase_servers" is known to Exim, not to mailsrv',
                'line 3 of exim.conf: main option "disable_fsync" is known to Exim, not to mailsrv',
                'line 4 of exim.conf: main option "xyzzy" unknown',
            ],
        )

    def test_numbers_that_are_far_too_long(self) -> None:
        """Each is an error with its line, or as good as the largest."""
        digits = "9" * 5000
        for text, problem in (
            (f"recipients_max = {digits}", "too large (overflow)"),
            (f"recipients_max = {digits}K", "too large (overflow)"),
            (f"never_users = {digits}", "not found"),
            (f"retry_interval_max = {digits}s", ""),
            (f"queue_only_load = {digits}.5", ""),
            (f"smtp_ratelimit_mail = {digits},1s,1,1s", ""),
            (f"begin retry\n* * F,{digits}s,1m", ""),
        ):
            errors = self.errors(text) if problem else self.read(text).late
            self.assertEqual(len(errors), bool(problem), text[:40])
            self.assertIn(problem, "".join(map(str, errors)))

    def test_what_is_not_built_is_a_late_fault(self) -> None:
        """It is accepted as Exim accepts it, and fails when it is reached."""
        text = (
            "event_action = x\nno_mua_wrapper\nbegin acl\na:\n deny malware = *\n"
            "begin routers\nr:\n driver = iplookup\n hosts = h\n port = 5\n"
            "q:\n driver = accept\n dnssec_require_domains = x\n transport = t\n"
            "begin transports\nt:\n driver = appendfile\n file = /x\n no_use_bsmtp\n"
            " create_file = anywhere\n quota_warn_threshold = 0\n"
            "begin authenticators\nspa:\n driver = spa"
        )
        read = self.read(text)
        late = sorted(str(each).partition("exim.conf: ")[2] for each in read.late)
        words = " is known to Exim, not to mailsrv"
        self.assertEqual(
            late,
            [
                f'ACL condition "malware"{words}',
                f'authenticator driver "spa"{words}',
                f"event_action{words}",
                f'router driver "iplookup"{words}',
                f"router q: dnssec_require_domains{words}",
            ],
        )
        self.assertTrue(all(router.unusable for router in read.routers))
        self.assertFalse(read.transports["t"].unusable)

    def test_a_package_that_is_not_installed(self) -> None:
        text = (
            "mysql_servers = h/d/u/p\ndomainlist a = ! pgsql;select 1 : x\n"
            "begin routers\nr:\n driver = redirect\n data = ${lookup mysql{select 1}}\n"
            " domains = ${lookup mysql,servers=h {select 1}}:${lookup redis{get x}}\n"
        )
        with mock.patch("mailsrv.config.packages.find_spec", {"redis": "here"}.get):
            warnings = self.read(text).warnings
        kinds = [warning.partition("type ")[2][:5] for warning in warnings]
        self.assertEqual(kinds, ["pgsql", "mysql"])
        self.assertIn("line 2 of", warnings[0])
        self.assertIn("pip install 'mailsrv[pgsql]'", warnings[0])

    def test_an_option_without_effect_is_a_warning(self) -> None:
        warnings = self.read("\nsplit_spool_directory").warnings
        self.assertEqual(len(warnings), 1)
        self.assertIn("exim.conf: split_spool_directory has no effect here: ", warnings[0])
        self.assertTrue(warnings[0].startswith("line 2 of "))

    def test_all_errors_come_in_the_order_of_the_file(self) -> None:
        errors = self.errors(
            "nonsense\n.endif\nhost_lookup\nrecipients_max = x\nbegin acl\n accept\n"
            "begin routers\nr1:\n driver = nosuch\nbegin nothing\nxx\nbegin transports\nt1:\n"
        )
        self.assertEqual(
            [error.split(" of ")[0] for error in errors],
            [f"line {line}" for line in (1, 2, 3, 4, 6, 9, 10, 13)],
        )

    def test_what_exim_looks_at_later_comes_later(self) -> None:
        """Some values when the main section was read, and one when all was (seen with 4.96)."""
        after = "nonsense\nbegin transports\nr1:\n driver = nosuch\n"
        for text, lines in (
            (f"localhost_number = x\n{after}", (2, 1, 5)),
            (f"smtp_ratelimit_mail = x\n{after}", (2, 1, 5)),
            (f"smtp_ratelimit_rcpt = x\nsmtp_ratelimit_mail = x\n{after}", (3, 2, 1, 6)),
            (f"smtp_active_hostname = ${{if\n{after}", (2, 5, 1)),
            # what a driver needs is looked at when its section was read
            (f"begin routers\nr:\n driver = accept\n {after}", (4, 2, 7)),
        ):
            told = [error.split(" of ")[0] for error in self.errors(text)]
            self.assertEqual(told, [f"line {line}" for line in lines], text)

    def test_derived_options(self) -> None:
        main = self.read("primary_hostname = mx.example").main
        self.assertEqual((main.qualify_domain, main.qualify_recipient), ("mx.example",) * 2)
        main = self.read("primary_hostname = mx.example\nqualify_domain = example").main
        self.assertEqual(main.qualify_recipient, "example")
        self.assertEqual(main.exim_user.name, "mailsrv")
        main = self.read("exim_user = 0").main
        self.assertEqual(main.exim_group.gid, 0)
        main = self.read("exim_user = 4242\nexim_group = 4243").main
        self.assertEqual((main.exim_user.uid, main.exim_group.gid), (4242, 4243))

    def test_a_bad_string_is_a_warning(self) -> None:
        warnings = self.read("queue_only\nsmtp_banner = ${if").notices()
        self.assertEqual(len(warnings), 1)
        self.assertRegex(warnings[0], "^line 2 of .*: smtp_banner: ")

    def test_what_is_declared_is_exims_or_marked_as_ours(self) -> None:
        for name, declared in MainOptions.options().items():
            self.assertEqual(name in main_options(), not declared.ours, name)
            self.assertTrue(declared.help)

    def test_every_default_can_be_printed_and_expanded(self) -> None:
        for name, declared in MainOptions.options().items():
            self.assertTrue(declared.type.line(name, declared.default))
            if isinstance(declared.default, Template) and name != "dkim_verify_signers":
                self.assertIsNone(declared.default.error, name)


class NamedListTests(FileTestCase):
    def test_definitions(self) -> None:
        lists = self.read(
            'domainlist a = x : y\nhostlist_cache a = "1\\t"\nhide addresslist b = z\n'
            "localpartlist c ="
        ).named_lists
        self.assertEqual(lists["domain"]["a"].template.source, "x : y")
        self.assertEqual(lists["host"]["a"].template.source, "1\t")
        self.assertEqual((lists["host"]["a"].cached, lists["domain"]["a"].cached), (True, False))
        self.assertTrue(lists["address"]["b"].hidden)
        self.assertEqual(lists["localpart"]["c"].where.line, 4)

    def test_faulty_definitions(self) -> None:
        for text, problem in {
            "domainlist a = x\ndomainlist a = y": 'duplicate name "a" for a named domain list',
            "domainlist a+b = x": "missing '=' after \"a\"",
            "domainlist a": "missing '=' after \"a\"",
            'domainlist a = "x:y" z': "extra characters follow string value for a",
        }.items():
            self.assertIn(problem, self.errors(text)[0])

    def test_an_undefined_name_is_found_wherever_the_list_is_constant(self) -> None:
        main = "domainlist locals = a\nhostlist relays = 10.0.0.0/8\n"
        for text, problem in {
            "host_lookup = ! +relay": 'there is no hostlist called "relay" (did you mean relays?)',
            "host_lookup = +locals": 'there is no hostlist called "locals"',
            "domainlist x = b : +y": 'there is no domainlist called "y"',
            f"{ROUTER} domains = +local\n{TRANSPORT}": 'no domainlist called "local"',
            f"{ROUTER} senders = *@+local : +x\n{TRANSPORT}": 'no domainlist called "local"',
            "begin acl\nx:\n accept hosts = +local_network": 'no hostlist called "local_network"',
            "begin acl\nx:\n accept\n  !domains = a : !+b": 'no domainlist called "b"',
            "begin acl\nx:\n require local_parts = +a": 'no localpartlist called "a"',
        }.items():
            late = str(self.read(main + text).late[0])
            self.assertIn(problem, late)
            self.assertRegex(late, r"^line \d+ of .*exim.conf: ")

    def test_what_cannot_be_known_or_is_no_name_is_left_alone(self) -> None:
        self.read(
            "host_lookup = $x : +nowhere\nhostlist h = 1.2.3.4\n"
            "helo_verify_hosts = +include_unknown : +ignore_defer : *\n"
            "hosts_connection_nolog = !+h : <; +x\nhost_reject_connection = <; ; +h"
        )


class SectionTests(FileTestCase):
    def test_names_are_singular_or_plural_in_any_case(self) -> None:
        self.read(
            "begin acls\nBEGIN router\nbegin Transports\nbegin   authenticator\nbegin retry\n"
        )

    def test_bad_sections(self) -> None:
        self.assertIn(
            '"foo" is not a known configuration section name', self.errors("begin foo\nbar")[0]
        )
        self.assertEqual(
            self.errors("begin acl\nbegin acls"),
            [
                'line 2 of exim.conf: "acls" section is repeated in the configuration file '
                "(first in line 1 of exim.conf)"
            ],
        )
        self.assertIn("known to Exim, not to mailsrv", self.errors("begin local_scan\nx = y")[0])

    def test_sections_come_in_any_order(self) -> None:
        configuration = self.read(TRANSPORT + ROUTER)
        self.assertEqual([router.name for router in configuration.routers], ["r1"])
        self.assertEqual(list(configuration.transports), ["t1"])

    def test_macros_between_acls_and_drivers(self) -> None:
        configuration = self.read(
            "begin acl\na:\n accept\nXX = /run/x\nb:\n deny\nbegin transports\nYY=XX\n"
            "t1:\n driver = lmtp\n socket = YY\n"
        )
        transport = configuration.transports["t1"]
        self.assertEqual(transport.values["socket"].source, "/run/x")
        self.assertEqual(configuration.macros["YY"], "/run/x")

    def test_a_macro_ends_the_acl_or_driver_before_it(self) -> None:
        self.assertEqual(
            self.errors("begin acl\na:\n accept\nXX=3\n deny"),
            ["line 5 of exim.conf: missing or malformed ACL name (a name and a colon)"],
        )
        errors = self.errors(f"{ROUTER}XX=5\n unseen\n{TRANSPORT}")
        self.assertEqual(errors, ["line 6 of exim.conf: router name missing (a name and a colon)"])

    def test_absent_sections_have_empty_tables(self) -> None:
        configuration = self.read("")
        self.assertEqual(configuration.routers, [])
        self.assertEqual(type(configuration.acls), type(self.read("begin acl").acls))


class DriverTests(FileTestCase):
    def test_an_instance(self) -> None:
        router = self.read(f"{ROUTER} no_more\n unseen\n{TRANSPORT}").routers[0]
        self.assertEqual((router.name, router.driver, router.kind), ("r1", "accept", "router"))
        self.assertEqual(router.where and router.where.line, 2)

    def test_private_options_come_after_the_driver(self) -> None:
        self.read('begin transports\nt1:\n headers_only\n driver = "lmtp"\n socket = /x\n')
        errors = self.errors("begin transports\nt1:\n hide hosts = x\n driver = smtp\n")
        self.assertEqual(len(errors), 1)
        self.assertIn('line 3 of exim.conf: "driver" must be specified before', errors[0])

    def test_a_name_has_63_characters_at_most(self) -> None:
        self.read(f"begin transports\n{'x' * 63}:\n driver = smtp\nbegin acl\n{'a' * 63}:\n accept")
        for section in ("transports", "acl"):
            error = self.errors(f"begin {section}\n{'x' * 64}:\n")[0]
            self.assertIn("line 2 of exim.conf: the name is longer than 63 characters", error)

    def test_options_that_join(self) -> None:
        router = self.read(
            f"{ROUTER} condition = a\n condition = b\n headers_add = x: y\n headers_add = z: z\n"
            f" headers_remove = a\n headers_remove = b\n no_verify\n{TRANSPORT}"
        ).routers[0]
        self.assertEqual(router.values["condition"].source, "${if and{{bool_lax{a}}{bool_lax{b}}}}")
        self.assertEqual(router.values["headers_add"].source, "x: y\nz: z")
        self.assertEqual(router.values["headers_remove"].source, "a:b")
        self.assertIs(router.values["verify_sender"], False)
        self.assertIs(router.values["verify_recipient"], False)

    def test_faults(self) -> None:
        for text, problem in {
            "begin routers\nr1:\n transport = t": 'no driver defined for router "r1"',
            "begin routers\nr1:\n driver = acept": 'cannot find router driver "acept" '
            "(did you mean accept?)",
            "begin authenticators\nr1:\n driver = gsasl": 'authenticator driver "gsasl" is known '
            "to Exim, not to mailsrv",
            "begin routers\nr1:\n driver = ../accept": 'cannot find router driver "../accept"',
            "begin routers\ndriver = accept": "router name missing",
            "begin routers\n1r:\n": "router name missing",
            "begin routers\nr1: x\n": "extra characters follow driver name r1",
            f"{ROUTER} driver = accept\n{TRANSPORT}": '"driver" option set for the second time',
            f"{ROUTER} trasnport = x\n{TRANSPORT}": 'option "trasnport" unknown '
            "(did you mean transport",
            f"{ROUTER}r1:\n driver = accept\n transport = t1\n{TRANSPORT}": "there are two routers "
            'called "r1"',
        }.items():
            self.assertIn(problem, self.errors(text)[0])

    def test_an_instance_that_cannot_work_names_its_line(self) -> None:
        errors = self.errors("queue_only\nbegin routers\nr1:\n driver = accept\n")
        self.assertEqual(len(errors), 1)
        self.assertRegex(errors[0], "^line 3 of exim.conf: .*r1.*")

    def test_a_transport_that_is_not_defined_is_a_warning(self) -> None:
        """Exim finds it when an address reaches the router."""
        warnings = self.read(ROUTER).notices()
        self.assertEqual(len(warnings), 1)
        self.assertRegex(warnings[0], '^line 4 of .*: router r1: transport "t1" is not defined$')


class Sample(OptionSet):
    """For tests of the declarations themselves."""

    kind = "router"
    self_ = option(STRING, "freeze", help="x")
    text = option(EXPANDED, "a$b", help="x")
    none = option(EXPANDED, help="x")


class DeclarationTests(FileTestCase):
    def test_a_default_text_is_compiled(self) -> None:
        sample = Sample("s")
        self.assertEqual(sample.text.source, "a$b")
        self.assertIs(sample.text, Sample("t").text)
        self.assertIsNone(sample.none)
        self.assertEqual(list(Sample.options()), ["none", "self", "text"])

    def test_a_value_of_the_file_comes_first(self) -> None:
        sample = Sample("s")
        sample.values["self"] = "pass"
        self.assertEqual((sample.self_, Sample("t").self_), ("pass", "freeze"))

    def test_errors_have_a_text_for_the_administrator(self) -> None:
        self.assertEqual(str(ConfigError("bad", None, "hint")), "bad (hint)")


class NoEffectTests(FileTestCase):
    def test_options_of_drivers_that_change_nothing(self) -> None:
        text = "begin transports\nt:\n driver = appendfile\n file = /x\n"
        first, second = self.read(f"{text} notify_comsat\n disable_logging\n").warnings
        self.assertIn("line 5 of", first)
        self.assertIn("notify_comsat has no effect here", first)
        self.assertIn("disable_logging has no effect here", second)
