"""The ``pipe`` transport (chapter 29): a command reads the message on its standard input."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, COMMAND, EXPANDED, OCTAL, SIZE, STRING, TIME
from mailsrv.errors import ConfigError, MailFailure, PermanentFailure, TemporaryFailure
from mailsrv.expansion.lists import split_list
from mailsrv.mail.routed import Outcome, Result, RoutedAddress
from mailsrv.mail.status import Status
from mailsrv.mail.taint import is_tainted, like
from mailsrv.transport.localmessage import LocalTransport
from mailsrv.transport.transport import Batch, expand

if TYPE_CHECKING:
    from mailsrv.transport.command import Command, Ended

NOT_DELIVERED = "local delivery failed"  # all that a bounce says, beside the output (29.2)
SHELL = "/bin/sh"
_MEANINGS = {
    64: "usage or syntax error",
    65: "error in input data",
    66: "cannot open input",
    67: "addressee unknown",
    68: "host name unknown",
    69: "service or program unavailable",
    70: "internal software error",
    71: "internal operating system error",
    72: "system file missing",
    73: "cannot create output file",
    74: "input/output error",
    75: "temporary error",
    76: "remote error in protocol",
    77: "permission denied",
    78: "configuration error",
    127: "unable to exec or command does not exist",
}


class _Writer(Protocol):
    """A message on its way to a command; all methods block."""

    def write(self, piece: bytes) -> None: ...
    def finish(self) -> Ended: ...
    def abort(self) -> None: ...


class Pipe(LocalTransport):
    """Delivers to commands of this machine."""

    allow_commands = option(EXPANDED, help="commands that may be run")
    command = option(COMMAND, help="the command, if no redirection names it")
    environment = option(EXPANDED, help="further environment variables: name=value : ...")
    force_command = option(BOOLEAN, default=False, help="run command for redirections, too")
    freeze_exec_fail = option(BOOLEAN, default=False, help="freeze if the command cannot be run")
    freeze_signal = option(BOOLEAN, default=False, help="freeze if the command ends by a signal")
    ignore_status = option(BOOLEAN, default=False, help="all exit statuses are a success")
    log_defer_output = option(BOOLEAN, default=False, help="log the output of a deferral")
    log_fail_output = option(BOOLEAN, default=False, help="log the output of a failure")
    log_output = option(BOOLEAN, default=False, help="log the first line of output")
    max_output = option(SIZE, default=20 * 1024, help="octets of output that are permitted")
    path = option(EXPANDED, "/bin:/usr/bin", help="where commands are sought")
    permit_coredump = option(
        BOOLEAN, default=False, help="allow core dumps", no_effect="limits are those of the server"
    )
    restrict_to_path = option(BOOLEAN, default=False, help="only commands that are on the path")
    return_fail_output = option(BOOLEAN, default=False, help="return the output of a failure")
    return_output = option(BOOLEAN, default=False, help="output is a failure, and is returned")
    temp_errors = option(STRING, default="75:73", help="exit statuses to try again after; * = all")
    timeout = option(TIME, default=3600, help="time that the command may take; 0s = any")
    timeout_defer = option(BOOLEAN, default=False, help="defer after a timeout")
    umask = option(OCTAL, default=0o022, help="the command's umask")
    pipe_as_creator = option(
        BOOLEAN, default=False, help="run as the user who sent the message", unbuilt=True
    )
    use_bsmtp = option(BOOLEAN, default=False, help="write batched SMTP", unbuilt=True)
    use_shell = option(BOOLEAN, default=False, help="let a shell run the command line")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        for both in (("return_output", "return_fail_output"), ("log_output", "log_fail_output")):
            if self.values.get(both[0]) and self.values.get(both[1]):
                self._refuse(f"only one of {both[0]} and {both[1]} may be set", both[1])
        if self.use_shell and (self.allow_commands is not None or self.restrict_to_path):
            name = "restrict_to_path" if self.restrict_to_path else "allow_commands"
            self._refuse(f"{name} may not be set with use_shell", name)
        if self.pipe_as_creator and (self.user is not None or self.group is not None):
            self._refuse("pipe_as_creator and a user or group are both set", "pipe_as_creator")
        if self.temp_errors.strip() != "*" and not re.fullmatch(r"[0-9 \t:]*", self.temp_errors):
            self._refuse("temp_errors must be a list of numbers or an asterisk", "temp_errors")
        self.use_defaults()

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        if self.force_command and self.command is None:
            problem = f"{self.name} transport: force_command needs command"
            yield ConfigError(problem, self.places.get("force_command", self.where))

    def _refuse(self, problem: str, option: str) -> None:
        raise ConfigError(f"{self.name} transport: {problem}", self.places.get(option, self.where))

    async def deliver(self, batch: Batch) -> None:
        """See :meth:`Transport.deliver`."""
        from mailsrv.transport.headers import content_of, filtered
        from mailsrv.transport.uncut import uncut

        command = await self._command(batch)
        content = await filtered(self, batch, await content_of(self, batch))
        pieces = self.pieces(batch, content)
        threads = batch.facilities.commands
        writer, _ = await uncut(threads.run(self._opener(batch, command)))
        try:
            async for piece in pieces:
                await threads.run(writer.write, piece)
            ended, _ = await uncut(threads.run(writer.finish))
        except BaseException:
            await uncut(threads.run(writer.abort))
            raise
        await batch.settle(self._outcomes(batch, command, ended))

    def _opener(self, batch: Batch, command: Command) -> Callable[[], _Writer]:
        """Return what starts the command, as the user of the batch."""
        from mailsrv.transport.command import CommandWriter

        run_as, channel = batch.run_as, batch.facilities.privileged
        if run_as is None:
            return lambda: CommandWriter(command)
        from mailsrv.transport.privileged.client import RemoteCommand
        from mailsrv.transport.privileged.wire import Request

        assert channel is not None
        request = Request(batch.transport, run_as.user, run_as.group, run_as.supplementary, command)
        return lambda: RemoteCommand(channel, request)

    # --- what is run ---

    async def _command(self, batch: Batch) -> Command:
        """Return what is to be run.

        :raises MailFailure: it may not be run, or cannot be expanded.
        """
        from mailsrv.transport.command import Command

        path = await expand(self.path, batch.scope())
        home = batch.values.get("home") or batch.addresses[0].home
        directory = await expand(self.current_directory, batch.scope())
        return Command(
            await self._arguments(batch, path),
            await self._environment(batch, path, home),
            path,
            directory or batch.addresses[0].directory or home or "/",
            self.umask,
            float(self.timeout),
            self.max_output,
        )

    async def _arguments(self, batch: Batch, path: str) -> tuple[str, ...]:
        from mailsrv.transport.commandline import arguments_of, split, untainted

        first, scope = batch.addresses[0], batch.scope()
        named = like(first.address[1:].strip(" \t"), first.address) if first.place else ""
        if self.command is None and not named:
            raise TemporaryFailure(reason=f"no command specified for {self.name} transport")
        if self.use_shell:
            line = named
            if not named or self.force_command:
                line = await expand(self.command, scope)
            return untainted([SHELL, "-c", line], self.name)
        if named and not self.force_command:
            found = split(named)
        else:
            assert self.command is not None
            addresses = [_address_of(each) for each in batch.addresses]
            pipe = first.address if first.place else ""
            found = await arguments_of(self.command.source, scope, addresses, pipe)
        if not found:
            raise TemporaryFailure(reason=f"no command specified for {self.name} transport")
        await self._permit(found[0], path, batch)
        return untainted(found, self.name)

    async def _permit(self, program: str, path: str, batch: Batch) -> None:
        """See that a program may be run (allow_commands, restrict_to_path) and is there.

        :raises PermanentFailure: it is not.
        """
        from mailsrv.transport.command import found_in

        allowed = split_list(await expand(self.allow_commands, batch.scope()))
        if program in allowed:
            pass
        elif self.restrict_to_path:
            if "/" in program:
                raise _refused(
                    f'"/" found in "{program}" (command for {self.name} transport) - failed for '
                    "security reasons"
                )
        elif self.allow_commands is not None:
            raise _refused(f'"{program}" command not permitted by {self.name} transport')
        if "/" not in program and not is_tainted(program):
            there = await batch.facilities.commands.run(found_in, program, path)
            if not there:
                raise _refused(f'"{program}" command not found for {self.name} transport')

    async def _environment(self, batch: Batch, path: str, home: str) -> dict[str, str]:
        """Return the command's whole environment (29.4)."""
        first, scope = batch.addresses[0], batch.scope()
        alone = len(batch.addresses) == 1
        local_part = first.local_part if alone else ""
        found = {
            "DOMAIN": first.domain,
            "HOME": home,
            "LOCAL_PART": local_part,
            "LOCAL_PART_PREFIX": first.prefix,
            "LOCAL_PART_SUFFIX": first.suffix,
            "LOGNAME": local_part,
            "MESSAGE_ID": batch.message.id,
            "PATH": path,
            "QUALIFY_DOMAIN": scope.services.settings.get("qualify_domain", ""),
            "RECIPIENT": f"{first.prefix}{local_part}{first.suffix}@{first.domain}",
            "SENDER": batch.sender,
            "SHELL": SHELL,
            "USER": local_part,
        }
        if first.hosts:
            found["HOST"] = first.hosts[0].name
        if scope.services.settings.get("timezone"):
            found["TZ"] = scope.services.settings["timezone"]
        for item in split_list(await expand(self.environment, scope)):
            name, _, value = item.partition("=")
            if name.strip(" \t"):
                found[name.strip(" \t")] = value
        return {name: str(value) for name, value in found.items() if "\0" not in name + value}

    # --- how it ended ---

    def _outcomes(self, batch: Batch, command: Command, ended: Ended) -> list[Outcome]:
        """Return what the end of the command means for each address (29.2)."""
        result, reason, frozen = self._judged(command, ended)
        output = ended.output
        logged = self.log_output or (
            self.log_fail_output if result is Result.FAILED else self.log_defer_output
        ) * (result is not Result.DELIVERED)
        if output and logged:
            line = output.split("\n")[0][:1000]
            for address in batch.addresses:
                text = f"<{address.address}>: {self.name} transport output: {line}"
                batch.facilities.log.main(text, batch.message.id)
        kept = self.return_output or (self.return_fail_output and result is Result.FAILED)
        took = batch.facilities.clock.seconds() - batch.started
        status = {Result.FAILED: _FAILED, Result.DEFERRED: _DEFERRED}.get(result)
        return [
            Outcome(
                address,
                result,
                reason,
                status,
                told=NOT_DELIVERED,
                output=output if kept and batch.message.sender else "",
                frozen=frozen,
                seconds=took,
            )
            for address in batch.addresses
        ]

    def _judged(self, command: Command, ended: Ended) -> tuple[Result, str, bool]:
        """Return the result, why, and whether to freeze."""
        if ended.not_executed and self.freeze_exec_fail:
            return Result.DEFERRED, f'pipe process failed to exec "{command.program}"', True
        if ended.timed_out:
            result = Result.DEFERRED if self.timeout_defer else Result.FAILED
            return result, "pipe delivery process timed out", False
        child = f"Child process of {self.name} transport"
        if ended.signal:
            reason = (
                f'{child} (running command "{" ".join(command.arguments)}") was terminated by '
                f"signal {ended.signal} ({signal.strsignal(ended.signal)})"
            )
            if self.freeze_signal:
                return Result.DEFERRED, reason, True
            if not self.ignore_status:
                return Result.FAILED, reason, False
        meaning = f" (could mean {text})" if (text := _meaning(ended.status)) else ""
        reason = f"{child} returned {ended.status}{meaning} from command: {command.program}"
        if self.return_output and ended.output:
            return Result.FAILED, reason if ended.status else f"{child} gave output", False
        if not ended.status or self.ignore_status:
            return Result.DELIVERED, "", False
        codes = re.split(r"[: \t]+", self.temp_errors.strip())
        temporary = codes == ["*"] or str(ended.status) in codes
        return Result.DEFERRED if temporary else Result.FAILED, reason, False


_FAILED = Status(550, 3, 0, NOT_DELIVERED)
_DEFERRED = Status(451, 3, 0, NOT_DELIVERED)


def _meaning(status: int) -> str:
    """Return what an exit status usually stands for; "" if that is not known."""
    if status > 128:
        name = signal.strsignal(status - 128) if status - 128 < signal.NSIG else None
        name = name or f"Unknown signal {status - 128}"
        return f"shell command ended by signal {status - 128} ({name})"
    return _MEANINGS.get(status, "")


def _refused(reason: str) -> MailFailure:
    return PermanentFailure(_FAILED, reason)


def _address_of(address: RoutedAddress) -> str:
    """Return the address that is delivered: of a redirection's pipe, that which was redirected."""
    if address.place and address.parent is not None:
        return address.parent.address
    return address.address
