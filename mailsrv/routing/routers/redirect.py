"""The ``redirect`` router (chapter 22): aliases, forward files, files, pipes, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, EXPANDED, GROUP_LIST, OCTAL, STRING, USER_LIST, User
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError, ForcedFailure
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.rewrite import RECIPIENT
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.taint import Tainted, is_tainted
from mailsrv.net.listfile import Demands, ListFile
from mailsrv.routing.address import begin
from mailsrv.routing.decision import (
    Child,
    Decision,
    Declined,
    Deferred,
    Discarded,
    Failed,
    Redirected,
)
from mailsrv.routing.filters import FilterOptions
from mailsrv.routing.redirection import (
    FILTER,
    Include,
    Malformed,
    Name,
    Place,
    Special,
    parse,
    read_said,
)
from mailsrv.routing.router import Context, transport_named

DEEPEST = 20  # files that include each other


class _Ended(Exception):
    """The list decides about the address already."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


class _Malformed(Exception):
    """The list is not as it must be; the text says why."""


@dataclass(slots=True)
class _Made:
    """What a list has given so far."""

    children: list[Child] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # syntax errors
    qualify_domain: str | None = None  # expanded when it is first needed


class Redirect(FilterOptions):
    """Replaces an address by others."""

    allow_defer = option(BOOLEAN, default=False, help="allow :defer: in a list")
    allow_fail = option(BOOLEAN, default=False, help="allow :fail: in a list")
    allow_filter = option(BOOLEAN, default=False, help="the list may be a filter")
    check_ancestor = option(BOOLEAN, default=False, help="an ancestor's address becomes ours again")
    check_group = option(BOOLEAN, help="the file must belong to a permitted group")
    check_owner = option(BOOLEAN, help="the file must belong to a permitted user")
    data = option(EXPANDED, help="expands to the list of redirections")
    directory_transport = option(EXPANDED, help="the transport to directories")
    file = option(EXPANDED, help="the file that holds the list")
    file_transport = option(EXPANDED, help="the transport to files")
    forbid_blackhole = option(BOOLEAN, default=False, help="refuse :blackhole:")
    forbid_file = option(BOOLEAN, default=False, help="refuse files and directories")
    forbid_include = option(BOOLEAN, default=False, help="refuse :include:")
    forbid_pipe = option(BOOLEAN, default=False, help="refuse pipes")
    forbid_smtp_code = option(
        BOOLEAN, default=False, help="ignore reply codes in :fail: and :defer:"
    )
    hide_child_in_errmsg = option(BOOLEAN, default=False, help="do not name children in bounces")
    ignore_eacces = option(BOOLEAN, default=False, help="a file that may not be read is not there")
    ignore_enotdir = option(BOOLEAN, default=False, help="a file below no directory is not there")
    include_directory = option(STRING, help="included files must be below it")
    modemask = option(OCTAL, default=0o022, help="bits that the file's mode must not have")
    one_time = option(BOOLEAN, default=False, help="redirect at the first attempt alone")
    owners = option(USER_LIST, help="users to whom the file may belong")
    owngroups = option(GROUP_LIST, help="groups to which the file may belong")
    pipe_transport = option(EXPANDED, help="the transport to pipes")
    qualify_domain = option(EXPANDED, help="the domain of addresses without one")
    qualify_preserve_domain = option(
        BOOLEAN, default=False, help="addresses without a domain get the parent's"
    )
    repeat_use = option(BOOLEAN, default=True, help="use for addresses that it has made, too")
    rewrite = option(BOOLEAN, default=True, help="rewrite the addresses that are made")
    skip_syntax_errors = option(BOOLEAN, default=False, help="leave malformed addresses out")
    syntax_errors_text = option(
        EXPANDED, help="the text of that message", no_effect="no message is sent"
    )
    syntax_errors_to = option(
        EXPANDED,
        help="who gets a message about what was left out",
        no_effect="what was left out is told in the main log alone",
    )

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if (self.data is None) == (self.file is None):
            which = "only one" if self.data is not None else "one"
            self._refuse(f'{which} of "file" or "data" must be specified')
        if self.transport is not None:
            self._refuse("a transport must not be defined for this router", "transport")
        if self.qualify_domain is not None and self.qualify_preserve_domain:
            self._refuse('only one of "qualify_domain" or "qualify_preserve_domain" must be set')
        if self.allow_filter and not self.check_local_user and self.user is None:
            self._refuse('"user" or "check_local_user" must be set with "allow_filter"')
        if self.one_time:
            if self.headers_add is not None or self.headers_remove is not None:
                self._refuse('"headers_add" and "headers_remove" are not permitted with "one_time"')
            if self.unseen:
                self._refuse('"unseen" may not be used with "one_time"')
            self.values |= {"forbid_file": True, "forbid_pipe": True}

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        for kind, given in (("owner", self.owners), ("group", self.owngroups)):
            option = f"check_{kind}"
            if self.values.get(option) and not given and not self.check_local_user:
                name = "owners" if kind == "owner" else "owngroups"
                problem = f"{self.name} router: {option} needs check_local_user or {name}"
                yield ConfigError(problem, self.places.get(option, self.where))

    def _refuse(self, problem: str, option: str = "") -> None:
        where = self.places.get(option, self.where)
        raise ConfigError(f"{self.name} router: {problem}", where)

    def has_made(self, address: RoutedAddress) -> bool:
        """See :meth:`Router.has_made`; ``repeat_use`` (22.10)."""
        if self.repeat_use:
            return super().has_made(address)
        return any(each.router == self.name for each in address.ancestors())

    async def route(self, address: RoutedAddress, context: Context) -> Decision:
        """See :meth:`Router.route`."""
        try:
            text = await self._text(address, context)
        except ForcedFailure:
            return Declined()
        if text is None:
            return Declined()
        if FILTER.match(text):
            if not self.allow_filter:
                return Deferred("error in filter data: filtering not enabled")
            return Deferred("error in filter data: filters are known to Exim, not to mailsrv")
        made = _Made()
        try:
            async for item in self._items(text, address, context):
                await self._take(item, made, address, context)
        except _Malformed as malformed:
            source = "data" if self.data is not None else "file"
            return Deferred(f"error in redirect {source}: {malformed}")
        except _Ended as ended:
            return ended.decision
        except TemporaryFailure as failure:
            return Deferred(failure.explained, told=failure.reason)
        if made.children:
            return Redirected(tuple(made.children))
        return Declined("syntax error in redirection data" if made.skipped else "")

    # --- where the list comes from ---

    async def _text(self, address: RoutedAddress, context: Context) -> str | None:
        """Return the list; None if there is none.

        :raises ForcedFailure: an option's string says that there is none.
        """
        scope = context.scope(address, self.name)
        if self.data is not None:
            try:
                text = await self.data.expand(scope)
                # Harmless in a path is not harmless in a list: a comma begins another item.
                return Tainted(text) if isinstance(text, Tainted) else text
            except ForcedFailure:
                raise
            except ExpansionError as error:
                raise error.saying(
                    f'failed to expand "{self.data.source}": {error.reason}'
                ) from None
        assert self.file is not None
        path = as_path(await self.file.expand(scope), "file read")
        if not path.startswith("/"):
            raise TemporaryFailure(reason=f'"{path}" is not an absolute path')
        return await self._read(ListFile(path, self._demands(context)), address, context)

    async def _read(self, file: ListFile, address: RoutedAddress, context: Context) -> str | None:
        """Read a file as the user whose it is (chapter 23).

        :raises TemporaryFailure: it cannot be read.
        """
        user = address.user
        if isinstance(self.user, User):
            user = self.user.name
        elif self.user is not None:
            user = await self.user.expand(context.scope(address, self.name))
        if self.file is None or not user or context.facilities.read_as is None:
            return await context.facilities.threads.run(file.read)
        return await context.facilities.read_as(self.name, user, file)

    def _demands(self, context: Context) -> Demands:
        """Return what the file must be like (check_owner, check_group and what they default to)."""
        user, group = (context.values.get(f"local_user_{each}") for each in ("uid", "gid"))
        owners = {each.uid for each in self.owners or () if each.uid is not None}
        groups = {each.gid for each in self.owngroups or () if each.gid is not None}
        check_owner, check_group = self.check_owner, self.check_group
        if check_owner is None:
            check_owner = self.check_local_user or self.owners is not None
        if check_group is None:
            writable = self.check_local_user and not self.modemask & 0o020
            check_group = writable or self.owngroups is not None
        if self.check_local_user and user and group:
            owners.add(int(user))
            groups.add(int(group))
        return Demands(
            frozenset(owners) if check_owner else None,
            frozenset(groups) if check_group else None,
            self.modemask,
            self.ignore_eacces,
            self.ignore_enotdir,
        )

    async def _items(
        self, text: str, address: RoutedAddress, context: Context, depth: int = 0
    ) -> AsyncIterator[Name | Place | Special | Malformed]:
        """Give the items of a list, those of included files in their place."""
        for item in parse(text):
            if not isinstance(item, Include):
                yield item
                continue
            if self.forbid_include:
                raise _Malformed("included files not permitted")
            if is_tainted(item.path):
                raise _Malformed(f"tainted name '{item.path}' of an included file is not permitted")
            if depth >= DEEPEST:
                raise _Malformed(f"included file {item.path}: too many files include each other")
            file = ListFile(item.path, included=True, directory=self.include_directory)
            try:
                more = await self._read(file, address, context) or ""
            except TemporaryFailure as failure:
                raise _Malformed(failure.reason) from failure
            async for each in self._items(more, address, context, depth + 1):
                yield each

    # --- what becomes of its items ---

    async def _take(
        self,
        item: Name | Place | Special | Malformed,
        made: _Made,
        address: RoutedAddress,
        context: Context,
    ) -> None:
        """Take one item.

        :raises _Ended: it decides about the address.
        :raises _Malformed: it may not be.
        """
        if isinstance(item, Malformed):
            if not self.skip_syntax_errors:
                raise _Malformed(item.problem)
            made.skipped.append(item.problem)
            context.facilities.log.main(f"{self.name} router: skipped error: {item.problem}")
        elif isinstance(item, Special):
            self._special(item, made, context)
        elif isinstance(item, Place):
            made.children.append(await self._place(item, address, context))
        else:
            made.children.append(await self._child(item, made, address, context))

    def _special(self, item: Special, made: _Made, context: Context) -> None:
        if item.word == "unknown":
            return
        forbidden = {
            "blackhole": self.forbid_blackhole,
            "fail": not self.allow_fail,
            "defer": not self.allow_defer,
        }[item.word]
        if forbidden:
            shown = f":{item.word}: {item.text}".strip(" ")
            raise _Malformed(f'"{shown}" is not permitted')
        if item.word == "blackhole":
            raise _Ended(Discarded())
        said = read_said(item)
        text = said.without_code if self.forbid_smtp_code else item.text
        if said.wrong_class and not self.forbid_smtp_code:
            context.facilities.log.panic(
                f'{self.name} router: configured error code starts with incorrect digit in "{text}"'
            )
        status = said.default if self.forbid_smtp_code else said.status
        if item.word == "defer":
            raise _Ended(Deferred(text, status=status))
        raise _Ended(Redirected(tuple(made.children), Failed(text, text, status)))

    async def _place(self, item: Place, address: RoutedAddress, context: Context) -> Child:
        """Return the delivery to a pipe, file or directory."""
        kind = "pipe" if item.kind == "pipe" else "file"
        name, problem = "", ""
        template = {
            "pipe": self.pipe_transport,
            "file": self.file_transport,
            "directory": self.directory_transport,
        }[item.kind]
        if self.forbid_pipe if kind == "pipe" else self.forbid_file:
            problem = f"delivery to {kind} forbidden"
        elif template is None:
            problem = f"{item.kind}_transport unset in {self.name} router"
        else:
            scope = context.scope(address, self.name)
            try:
                name = await transport_named(self.name, template, scope, context.facilities)
            except TemporaryFailure as failure:
                problem = failure.reason
        child = replace(
            address, address=item.text, parent=address, transport=name, place=True, hosts=()
        )
        return Child(self._marked(child), problem=problem)

    async def _child(
        self, item: Name, made: _Made, address: RoutedAddress, context: Context
    ) -> Child:
        """Return the child that is an address, with its domain."""
        domain = item.domain
        if not domain and (item.escaped or self.qualify_preserve_domain):
            domain = address.domain
        elif not domain:
            domain = await self._qualify_domain(made, address, context)
        # Whoever writes lists may not choose paths: an address is nobody's own word.
        text: str = Tainted(f"{item.local_part}@{domain}")
        if self.rewrite:
            scope = context.scope(address, self.name)
            text = await context.facilities.rewriter.address(text, RECIPIENT, scope)
        if self.check_ancestor and any(each.address == text for each in address.ancestors()):
            text = address.address
        return Child(
            self._marked(begin(address.recipient, text, address)), self.redirect_router or ""
        )

    async def _qualify_domain(self, made: _Made, address: RoutedAddress, context: Context) -> str:
        """Return what qualifies addresses without a domain.

        :raises _Ended: the option's string was forced to fail.
        """
        if made.qualify_domain is None:
            scope = context.scope(address, self.name)
            if self.qualify_domain is not None:
                try:
                    made.qualify_domain = await self.qualify_domain.expand(scope)
                except ForcedFailure:
                    raise _Ended(Declined()) from None
            else:
                made.qualify_domain = scope.services.settings.get("qualify_recipient", "")
        return made.qualify_domain

    def _marked(self, child: RoutedAddress) -> RoutedAddress:
        child.hidden = child.hidden or self.hide_child_in_errmsg
        child.one_time = child.one_time or self.one_time
        return child
