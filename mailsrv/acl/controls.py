"""The ``control`` modifier (44.22): what lasts for the connection or for the message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailsrv.acl.item import not_in_mailsrv
from mailsrv.acl.model import ALL_PHASES, MESSAGE_PHASES, PHASE_NAMES, SMTP_PHASES, Undecided
from mailsrv.acl.modifiers import Modifier
from mailsrv.errors import ConfigError, Position
from mailsrv.interfaces import AclPhase
from mailsrv.mail.address import split, unquoted
from mailsrv.mail.case import lower as lowered
from mailsrv.mail.message import Submission
from mailsrv.mail.status import Status
from mailsrv.mail.taint import like

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

Apply = Callable[["Evaluation", "list[str]"], None]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A control: where it may stand, the options it takes, what it does.

    ``no_effect`` says why it changes nothing here, where Exim does something.
    """

    phases: frozenset[AclPhase]
    apply: Apply
    accepts: Callable[[str], bool] = lambda option: False
    no_effect: str = ""


def _freeze(run: Evaluation, options: list[str]) -> None:
    run.transaction.frozen = True
    run.transaction.no_tell = "no_tell" in options


def _queue(run: Evaluation, options: list[str]) -> None:
    run.transaction.queue_only = True


def submission(options: list[str]) -> Submission:
    """Return the submission mode that options ask for (48.1)."""
    given = dict(option.partition("=")[::2] for option in options)
    return Submission(given.get("domain"), given.get("name", ""), "sender_retain" in given)


def _submission(run: Evaluation, options: list[str]) -> None:
    run.transaction.submission = submission(options)


def _is_submission_option(option: str) -> bool:
    return option == "sender_retain" or option.startswith(("domain=", "name="))


def _sync(enforce: bool) -> Apply:
    def apply(run: Evaluation, options: list[str]) -> None:
        run.connection.enforce_sync = enforce

    return apply


def _one_line(run: Evaluation, options: list[str]) -> None:
    run.connection.one_line_replies = True


def _case(lower: bool) -> Apply:
    def apply(run: Evaluation, options: list[str]) -> None:
        address = run.scope.address
        if address is not None:
            local_part = unquoted(split(address.address)[0])
            address.local_part = like(lowered(local_part), local_part) if lower else local_part

    return apply


def _nothing(run: Evaluation, options: list[str]) -> None:
    """Nothing to do: mailsrv never does what this control turns off."""


def _fake(code: int) -> Apply:
    """The message is taken, and the client reads a refusal."""

    def apply(run: Evaluation, options: list[str]) -> None:
        text = "/".join(options).strip(" \t") or _FAKE_TEXT
        run.transaction.feigned = Status(code, 0, 0, text)

    return apply


def _no_pipelining(run: Evaluation, options: list[str]) -> None:
    run.connection.no_pipelining = True


def _auth_unadvertised(run: Evaluation, options: list[str]) -> None:
    run.connection.auth_unadvertised = True


def _no_fixups(run: Evaluation, options: list[str]) -> None:
    run.transaction.no_fixups = True


def _any(option: str) -> bool:
    return True


_FAKE_TEXT = (
    "Your message has been rejected but is being\nkept for evaluation.\n"
    "If it was a legitimate message, it may still be\ndelivered to the target recipient(s)."
)
_CLASSES = frozenset(
    (
        *(f"af{number}{drop}" for number in range(1, 5) for drop in range(1, 4)),
        *(f"cs{number}" for number in range(8)),
        "ef",
    )
)


def _is_traffic_class(option: str) -> bool:
    return option.lower() in _CLASSES or (option.isascii() and option.isdigit())


_BEFORE_DATA = frozenset({AclPhase.MAIL, AclPhase.RCPT, AclPhase.PREDATA, AclPhase.NOT_SMTP_START})
_GREETING = frozenset({AclPhase.CONNECT, AclPhase.HELO})
_KINDS = {
    "allow_auth_unadvertised": _Kind(_GREETING, _auth_unadvertised),
    "cutthrough_delivery": _Kind(ALL_PHASES, _nothing, _any, "messages are stored first"),
    "debug": _Kind(ALL_PHASES, _nothing, _any, "there is no debug log"),
    "dscp": _Kind(ALL_PHASES, _nothing, _is_traffic_class, "the traffic class is the system's"),
    "fakedefer": _Kind(_BEFORE_DATA | {AclPhase.DATA}, _fake(450), _any),
    "fakereject": _Kind(_BEFORE_DATA | {AclPhase.DATA}, _fake(550), _any),
    "no_callout_flush": _Kind(ALL_PHASES, _nothing),
    "no_delay_flush": _Kind(ALL_PHASES, _nothing),
    "no_pipelining": _Kind(SMTP_PHASES, _no_pipelining),
    "suppress_local_fixups": _Kind(_BEFORE_DATA, _no_fixups),
    "utf8_downconvert": _Kind(
        frozenset({AclPhase.RCPT, AclPhase.VRFY}),
        _nothing,
        ("0", "1", "-1").__contains__,
        "addresses are never converted",
    ),
    "caseful_local_part": _Kind(frozenset({AclPhase.RCPT}), _case(False)),
    "caselower_local_part": _Kind(frozenset({AclPhase.RCPT}), _case(True)),
    "dkim_disable_verify": _Kind(SMTP_PHASES - {AclPhase.DATA}, _nothing),
    "dmarc_disable_verify": _Kind(SMTP_PHASES - {AclPhase.DATA}, _nothing),
    "enforce_sync": _Kind(SMTP_PHASES, _sync(True)),
    "freeze": _Kind(MESSAGE_PHASES, _freeze, lambda option: option == "no_tell"),
    "no_enforce_sync": _Kind(SMTP_PHASES, _sync(False)),
    "no_mbox_unspool": _Kind(MESSAGE_PHASES, _nothing),
    "no_multiline_responses": _Kind(SMTP_PHASES, _one_line),
    "queue": _Kind(MESSAGE_PHASES, _queue),
    "submission": _Kind(_BEFORE_DATA, _submission, _is_submission_option),
}
_OTHER_NAMES = {"queue_only": "queue", "no_multiline_response": "no_multiline_responses"}
_KNOWN_TO_EXIM = frozenset({"dmarc_enable_forensic"})


def parse_control(text: str) -> tuple[str, list[str]]:
    """Return the name and options of a control.

    :raises ValueError: it is none, in Exim's words.
    :raises NotImplementedError: it is known to Exim, not to mailsrv.
    """
    word, slash, rest = text.partition("/")
    name = _OTHER_NAMES.get(word, word)
    options = _options(name, rest) if slash else []
    if name in _KNOWN_TO_EXIM or (name == "queue" and options == ["first_pass_route"]):
        raise NotImplementedError(f'"control = {text}"')
    kind = _KINDS.get(name)
    if kind is None or not all(kind.accepts(option) for option in options):
        raise ValueError(f'syntax error in "control={text}"')
    return name, options


def _options(name: str, text: str) -> list[str]:
    """Split at slashes; a submission's ``name=`` is the last and takes all that follows."""
    if name != "submission":
        return text.split("/")
    before, found, full_name = f"/{text}".partition("/name=")
    options = before.split("/")[1:]
    return [*options, f"name={full_name}"] if found else options


class Control(Modifier):
    """Set a control; the argument is ``name`` or ``name/option/option``."""

    name = "control"

    def __init__(self, argument: str, where: Position | None) -> None:
        super().__init__(argument, where)
        self._parsed: tuple[str, list[str]] | None = None
        if self.argument.constant is not None:
            try:
                self._parsed = parse_control(self.argument.constant)
            except NotImplementedError as error:
                self.late = not_in_mailsrv(str(error), where)
            except ValueError as error:
                self.late = ConfigError(str(error), where)

    def allowed(self) -> frozenset[AclPhase]:
        """The phases that can have the control."""
        return ALL_PHASES if self._parsed is None else _KINDS[self._parsed[0]].phases

    def notes(self) -> Iterator[str]:
        """See :meth:`Item.notes`."""
        if self._parsed is not None:
            name = self._parsed[0]
            if _KINDS[name].no_effect:
                yield f"control = {name} has no effect here: {_KINDS[name].no_effect}"

    async def test(self, run: Evaluation) -> bool:
        """Take effect; always met."""
        if self._parsed is not None:
            name, options = self._parsed
        else:
            try:
                name, options = parse_control(await run.expanded(self.argument))
            except NotImplementedError as error:
                log = f"{error} is known to Exim, not to mailsrv"
                raise Undecided(log=log, error=True) from None
            except ValueError as error:
                raise Undecided(log=str(error), error=True) from None
        kind = _KINDS[name]
        if run.phase not in kind.phases:
            phase = PHASE_NAMES[run.phase]
            raise Undecided(log=f'cannot use "control={name}" in {phase} ACL', error=True)
        kind.apply(run, options)
        return True
