"""Whatever a string holds, and whatever a peer's values are: a result, or an ExpansionError."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.operators import OPERATORS
from mailsrv.expansion.parse import parse
from mailsrv.expansion.scope import Scope
from mailsrv.mail.taint import Tainted
from tests.expansion.setting import expand, make_scope

LONG = "9" * 5000  # digits: Python's int() takes no more than 4300
VALUES = (
    *("", "\0", "\xff\xfe", LONG, f"-{LONG}", f"+{LONG}K", f"0{LONG}", f"0x{LONG}", f"{LONG}d"),
    *(f"1.2.3.4/{LONG}", f"1.2.3.4/{'0' * 5000}", f"::1/{LONG}", f"2001:{LONG}::", "((((", "]["),
    *('"\\' * 500, "=?idna?q?" + "x" * 500 + "?=", "a@" * 500, "<" * 500, "%" * 500, "\n\r\t \v"),
    *(
        "-----BEGIN CERTIFICATE-----\n x",
        '{"a":' * 500,
        f"[{LONG}]",
        "a:" * 500,
        "<;;",
        "xn--" * 99,
    ),
    f"prvs=1{LONG}=a@b",
)
ITEMS = (
    "${extract{$value}{:}{a:b}}",
    "${extract{1}{:}{$value}}",
    "${extract{$value}{a=b}}",
    "${extract json{$value}{[1,2]}}",
    "${extract json{a}{$value}}",
    "${extract jsons{1}{$value}}",
    "${listextract{$value}{a:b}}",
    "${listextract{1}{$value}}",
    "${substr{$value}{1}{abc}}",
    "${length{$value}{abc}}",
    "${hash{$value}{3}{abc}}",
    "${nhash{$value}{abc}}",
    "${tr{$value}{a}{b}}",
    "${sg{$value}{a}{b}}",
    "${map{$value}{$item}}",
    "${filter{$value}{eq{$item}{a}}}",
    "${reduce{$value}{}{$item}}",
    "${sort{$value}{<}{$item}}",
    "${sort{$value}{ltei}{$item}}",
    "${prvs{$value}{s}}",
    "${prvscheck{$value}{s}}",
    "${srs_encode{s}{$value}{d}}",
    "${hmac{md5}{s}{$value}}",
    "${hmac{$value}{s}{x}}",
    "${imapfolder{$value}}",
    "${listquote{:}{$value}}",
    "${authresults{$value}}",
    "${certextract{$value}{$tls_in_peercert}}",
    "${env{$value}{y}{n}}",
    "${if eq{$value}{a}}",
    "${if ={$value}{1}}",
    "${if >{1}{$value}}",
    "${if lti{$value}{a}}",
    "${if bool{$value}}",
    "${if bool_lax{$value}}",
    "${if isip{$value}}",
    "${if def:value}",
    "${if match{$value}{^a}}",
    "${if inlist{a}{$value}}",
    "${if inlisti{$value}{a:b}}",
    "${if match_ip{$value}{10.0.0.0/8}}",
    "${if match_domain{$value}{a}}",
    "${if match_address{$value}{a@b}}",
    "${if match_local_part{$value}{a}}",
    "${if forany{$value}{eq{$item}{a}}}",
    "${if forall_json{$value}{eq{$item}{a}}}",
    "${if crypteq{$value}{\\{md5\\}x}}",
    "${if crypteq{a}{$value}}",
    "${if inbound_srs{$value}{s}}",
    "${if inbound_srs{$value}{}}",
)
PIECES = (
    *("${", "{", "}", "$", "\\", "\\N", "\\x", ":", "if ", "eq", "def:", "and", "!", "==", "lc:"),
    *("extract", "lookup", "lsearch", "acl", "run", "perl", "h_a:", "$1", LONG, "domain", "fail"),
    *("a", "1", ",", "\n", "\0", "\xe9", "stat", "substr_1_2:", "quote_", "sort", "map", "<"),
)


def with_value(value: str) -> Scope:
    return make_scope().within({"value": Tainted(value)})


class HostileTests(SynchronousTestCase):
    def no_more_than_an_error(self, text: str, scope: Scope) -> None:
        try:
            expand(text, scope)
        except ExpansionError:
            pass
        except Exception as error:
            raise AssertionError(f"{text!r} with {scope.values['value'][:40]!r}") from error

    def test_operators(self) -> None:
        arguments = {
            "base62d": "",
            "substr": "_1_2",
            "length": "_3",
            "hash": "_3_2",
            "nhash": "_5_5",
        }
        names = [f"{name}{arguments.get(name, '')}" for name in (*OPERATORS, "expand", "stat")]
        names += [f"substr_{LONG}", f"s_1_{LONG}", f"length_{LONG}", "listnamed_d"]
        for value in VALUES:
            scope = with_value(value)
            for name in names:
                self.no_more_than_an_error(f"${{{name}:$value}}", scope)

    def test_items_and_conditions(self) -> None:
        for value in VALUES:
            scope = with_value(value)
            for text in ITEMS:
                self.no_more_than_an_error(text, scope)

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
    def test_parser(self, text: str) -> None:
        try:
            parse(text)
        except ExpansionError:
            pass

    def test_deep(self) -> None:
        """A hundred thousand levels are an error, in a moment."""
        for piece in ("${lc:", "${if and{{", "${map{a}{", "{", "${extract{", "${if eq{"):
            self.no_more_than_an_error(piece * 100_000, with_value(""))
