"""Names within strings that nothing has: lists, ACLs, transports, functions in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mailsrv.commands.checks.braces import closing, second_argument
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outcomes import outcomes
from mailsrv.commands.checks.outside import Outside
from mailsrv.commands.checks.strings import lists, patterns, strings
from mailsrv.commands.checks.usage import find_text
from mailsrv.config.drivers import TRANSPORT_OPTIONS
from mailsrv.config.model import LIST_KINDS, Configuration
from mailsrv.config.options import OptionSet
from mailsrv.errors import ConfigError
from mailsrv.expansion.lists import SETTINGS
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase
from mailsrv.routing.routers.manualroute import WORDS, Manualroute
from mailsrv.service.functions import read

_MATCH = re.compile(r"\bmatch_(domain|ip|address|local_part)[ \t]*\{")
_LISTNAMED = re.compile(r"\$\{listnamed(?:_([dhla]))?:([A-Za-z]\w*)\}")
_ACL = re.compile(r"\$\{acl[ \t]*\{(\w+)\}|\bacl[ \t]*\{\{[ \t]*(\w+)[ \t]*\}")
_PYTHON = re.compile(r"\$\{python[ \t]*\{(\w+)\}")
_KINDS = {"ip": "host", "local_part": "localpart", **{each[0]: each for each in LIST_KINDS}}
# A list's name in a list that is expanded: it begins an item, a branch or the whole.
_PLUS = re.compile(r"(?:\A|[{:;,]|[ \t!@])\+([A-Za-z]\w*)[ \t]*(?=[:;,}]|\Z)")


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield uses of what is not there."""
    for name, template in strings(configuration):
        yield from _lists(configuration, name, template)
        for first, second in _ACL.findall(template.source):
            if (first or second) not in configuration.acls.acls:
                problem = f'{name}: there is no ACL called "{first or second}"'
                yield Finding(template.where, problem, 'define it below "begin acl"')
        if _PYTHON.search(template.source):
            yield from _functions(configuration, name, template)
    for name, kind, template in lists(configuration):
        if template.constant is None:
            outside_match = _without_matches(template.source)
            for word in _PLUS.findall(outside_match):
                yield from _unless_there(configuration, name, template, kind, word)
    for name, kind, template in patterns(configuration):
        yield from _items(configuration, name, template, kind, template.source)
    outside = Outside(configuration)
    for router in configuration.routers:
        yield from _transports(router, outside)
    yield from _acls(configuration)


def _functions(configuration: Configuration, name: str, template: Template) -> Iterator[Finding]:
    path = configuration.main.python_startup
    if not path:
        problem = f"{name}: there are no functions in Python, and so it fails"
        yield Finding(template.where, problem, "set python_startup to the file that has them")
        return
    try:
        defined = _defined(read(path))
    except ConfigError:
        return  # told of by another check
    for function in _PYTHON.findall(template.source):
        if function.startswith("_") or (defined is not None and function not in defined):
            problem = f'{name}: there is no python function called "{function}"'
            yield Finding(template.where, problem, f"define it at the top level of {path}")


def _defined(module: ast.Module) -> set[str] | None:
    """Return the names that a file has at its top level; None if they cannot be told."""
    found: set[str] = set()
    for node in module.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found.add(node.name)
            case ast.Import() | ast.ImportFrom():
                found |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign(targets=[ast.Name(id=name)]):
                found.add(name)
            case ast.Expr() | ast.ClassDef() | ast.AnnAssign():
                pass
            case _:
                return None
    return None if "*" in found else found


def _lists(configuration: Configuration, name: str, template: Template) -> Iterator[Finding]:
    source = template.source
    for found in _MATCH.finditer(source):
        kind = _KINDS.get(found[1], found[1])
        text = second_argument(source, found.end() - 1)
        yield from _items(configuration, name, template, kind, text)
    for letter, word in _LISTNAMED.findall(source):
        kind = _KINDS.get(letter, "")
        named = configuration.named_lists
        if not any(word in named[each] for each in ([kind] if kind else named)):
            problem = f'{name}: there is no {kind}list called "{word}"'
            yield Finding(template.where, problem, "define it before the first begin")


def _without_matches(source: str) -> str:
    """Return a string without the lists of conditions, which may be of another kind."""
    for found in reversed(list(_MATCH.finditer(source))):
        second = source.find("{", closing(source, found.end() - 1) + 1)
        if second >= 0:
            source = source[:second] + source[closing(source, second) + 1 :]
    return source


def _items(
    configuration: Configuration, name: str, template: Template, kind: str, text: str
) -> Iterator[Finding]:
    for item in split_list(text):
        local_part, plus, word = item.lstrip("! \t").rpartition("+")
        if not plus or word in SETTINGS or not word.isidentifier():
            continue
        if not local_part:
            yield from _unless_there(configuration, name, template, kind, word)
        elif kind == "address" and local_part.endswith("@"):
            yield from _unless_there(configuration, name, template, "domain", word)


def _unless_there(
    configuration: Configuration, name: str, template: Template, kind: str, word: str
) -> Iterator[Finding]:
    if word not in SETTINGS and word not in configuration.named_lists[kind]:
        problem = f'{name}: there is no {kind}list called "{word}"'
        yield Finding(template.where, problem, f"define {kind}list {word} before the first begin")


def _transports(router: OptionSet, outside: Outside) -> Iterator[Finding]:
    defined = outside.configuration.transports
    for name in TRANSPORT_OPTIONS:
        value = router.values.get(name)
        if isinstance(value, Template) and value.constant is None:
            for text in sorted(outcomes(outside, value) - {"", *defined}):
                problem = f'router {router.name}: {name} comes to "{text}", which is not defined'
                yield Finding(value.where, problem, 'define it below "begin transports"')
    if isinstance(router, Manualroute):
        for rule in router.rules:
            for word in rule.options:
                if word not in WORDS and word not in defined:
                    problem = f'router {router.name}: "{word}" is no transport and no option'
                    where = router.places.get("route_list", router.where)
                    yield Finding(where, problem, 'define it below "begin transports"')


def _acls(configuration: Configuration) -> Iterator[Finding]:
    """The names that expanded main options and conditions come to."""
    outside = Outside(configuration)
    for item in configuration.acls.items():
        if item.name != "acl" or item.argument.constant is not None:
            continue
        for text in sorted(outcomes(outside, item.argument)):
            try:
                find_text(configuration, text, item.where)
            except ConfigError:
                problem = f'acl comes to "{text}", and there is no such ACL'
                yield Finding(item.where, problem, 'define it below "begin acl"')
    for phase in AclPhase:
        option = getattr(configuration.main, phase.option, None)
        if not isinstance(option, Template) or option.constant is not None:
            continue
        for text in sorted(outcomes(Outside(configuration, phase=phase), option)):
            try:
                find_text(configuration, text, option.where)
            except ConfigError:
                problem = f'{phase.option} comes to "{text}", and there is no such ACL'
                yield Finding(option.where, problem, 'define it below "begin acl"')
