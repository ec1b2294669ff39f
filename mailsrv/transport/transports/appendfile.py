"""The ``appendfile`` transport (chapter 26): mailbox files, and Maildirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, TypeVar

from mailsrv.config.options import option
from mailsrv.config.types import BOOL_OR_EXPANDED, BOOLEAN, EXPANDED, INTEGER, OCTAL, STRING, TIME
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.scope import Scope
from mailsrv.mail.routed import Outcome, Result
from mailsrv.transport.localmessage import LocalTransport
from mailsrv.transport.maildirsize import DIRECTORIES, Quota
from mailsrv.transport.transport import Batch, expand, optional, size_of

if TYPE_CHECKING:
    from mailsrv.transport.headers import Content
    from mailsrv.transport.maildir import Maildir
    from mailsrv.transport.mbox import Mailbox

T = TypeVar("T")
FRESH = 1.0  # seconds in which a message has no second attempt


class _Writer(Protocol):
    """A message on its way into a file; all methods block."""

    def write(self, piece: bytes) -> None: ...
    def finish(self) -> str: ...
    def abort(self) -> None: ...


_NEVER_BLOCKS = "a lock that is held is asked for again, lock_retries times"


class Appendfile(LocalTransport):
    """Delivers into files of this machine."""

    allow_fifo = option(
        BOOLEAN, default=False, help="the mailbox may be a FIFO", no_effect="FIFOs are refused"
    )
    allow_symlink = option(BOOLEAN, default=False, help="the mailbox may be a symbolic link")
    check_group = option(BOOLEAN, default=False, help="the mailbox must belong to our group")
    check_owner = option(BOOLEAN, default=True, help="the mailbox must belong to our user")
    create_directory = option(BOOLEAN, default=True, help="make missing directories")
    create_file = option(STRING, default="anywhere", help="where files may be made", unbuilt=True)
    directory = option(EXPANDED, help="the Maildir")
    directory_file = option(
        EXPANDED,
        "q${base62:$tod_epoch}-$inode",
        help="names of files in a plain directory",
        no_effect="plain directories are not built",
    )
    directory_mode = option(OCTAL, default=0o700, help="mode of directories that are made")
    file = option(EXPANDED, help="the mailbox file")
    file_format = option(STRING, help="transports for files that begin otherwise", unbuilt=True)
    file_must_exist = option(BOOLEAN, default=False, help="defer if the mailbox does not exist")
    lock_fcntl_timeout = option(
        TIME, default=0, help="how long fcntl() waits for a lock", no_effect=_NEVER_BLOCKS
    )
    lock_flock_timeout = option(
        TIME, default=0, help="how long flock() waits for a lock", no_effect=_NEVER_BLOCKS
    )
    lock_interval = option(TIME, default=3, help="time between attempts to lock")
    lock_retries = option(INTEGER, default=10, help="attempts to lock")
    lockfile_mode = option(OCTAL, default=0o600, help="mode of the lock file")
    lockfile_timeout = option(TIME, default=1800, help="age at which a lock file is taken away")
    mailbox_filecount = option(EXPANDED, help="the number of files, known already", unbuilt=True)
    mailbox_size = option(EXPANDED, help="the size of the mailbox, known already", unbuilt=True)
    maildir_format = option(BOOLEAN, default=False, help="deliver into a Maildir")
    maildir_retries = option(INTEGER, default=10, help="attempts to find a new file name")
    maildir_tag = option(EXPANDED, help="added to the names of a Maildir's files")
    maildir_use_size_file = option(
        BOOL_OR_EXPANDED,
        default=False,
        help="keep a maildirsize file",
        no_effect="the files themselves are counted for a quota",
    )
    maildirfolder_create_regex = option(
        STRING, help="names of folders that get a maildirfolder file", unbuilt=True
    )
    mailstore_format = option(BOOLEAN, default=False, help="two files for a message", unbuilt=True)
    mailstore_prefix = option(
        EXPANDED, help="beginning of an envelope file", no_effect="mailstore_format is not built"
    )
    mailstore_suffix = option(
        EXPANDED, help="end of an envelope file", no_effect="mailstore_format is not built"
    )
    mbx_format = option(BOOLEAN, default=False, help="the mailbox has MBX format", unbuilt=True)
    mode = option(OCTAL, default=0o600, help="mode of files that are made")
    mode_fail_narrower = option(
        BOOLEAN, default=True, help="defer if the mailbox' mode is narrower"
    )
    maildir_quota_directory_regex = option(
        STRING, DIRECTORIES, help="directories of a Maildir that count for its quota"
    )
    notify_comsat = option(
        BOOLEAN,
        default=False,
        help="tell comsat of new mail",
        no_effect="mailsrv does not speak to comsat",
    )
    quota = option(EXPANDED, help="largest size of a mailbox file or Maildir")
    quota_directory = option(EXPANDED, help="directory whose files count for the quota")
    quota_filecount = option(EXPANDED, help="largest number of files in a Maildir")
    quota_is_inclusive = option(
        BOOLEAN, default=True, help="the new message counts for the quota, too"
    )
    quota_size_regex = option(STRING, help="the size of a file, in its name")
    quota_warn_message = option(
        EXPANDED,
        help="the warning that space is short",
        no_effect="quota_warn_threshold is not built",
    )
    quota_warn_threshold = option(EXPANDED, help="the size at which to warn", unbuilt=True)
    use_bsmtp = option(BOOLEAN, default=False, help="write batched SMTP", unbuilt=True)
    use_fcntl_lock = option(
        BOOLEAN, default=True, help="lock with fcntl(); by default on unless use_flock_lock is"
    )
    use_flock_lock = option(BOOLEAN, default=False, help="lock with flock()")
    use_lockfile = option(BOOLEAN, default=True, help="lock with a lock file")
    use_mbx_lock = option(BOOLEAN, default=False, help="lock as MBX does", unbuilt=True)

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if self.file is not None and self.directory is not None:
            raise ConfigError(
                f"{self.name} transport: only one of file and directory can be set", self.where
            )
        if self.mailstore_format and self.maildir_format:
            problem = "only one of maildir_format and mailstore_format can be set"
            raise ConfigError(f"{self.name} transport: {problem}", self.where)
        known = ("anywhere", "belowhome", "inhome")
        if self.create_file not in known and not self.create_file.startswith("/"):
            problem = f"create_file cannot be {self.create_file!r}"
            where = self.places.get("create_file")
            raise ConfigError(problem, where, "anywhere, belowhome or inhome")
        for name in ("quota_directory", "quota_filecount"):
            if name in self.values and self.file is not None:
                problem = f"{name} must not be set without directory"
                raise ConfigError(problem, self.places.get(name))
            if name in self.values and self.directory is not None and self.quota is None:
                raise ConfigError(f"quota must be set if {name} is set", self.places.get(name))
        self.values.setdefault("use_fcntl_lock", not self.use_flock_lock)
        locked = self.use_lockfile or self.use_fcntl_lock or self.use_flock_lock
        if self.directory is None and not self.maildir_format and not locked:
            raise ConfigError(
                "no locking is configured: set use_fcntl_lock, use_flock_lock or use_lockfile",
                self.where,
            )
        if self.directory is None and not self.maildir_format:
            self.use_defaults(check_string="From ", escape_string=">From ")

    def late(self) -> Iterator[ConfigError]:
        """See :meth:`OptionSet.late`."""
        yield from super().late()
        name = f"{self.name} transport"
        for pattern in ("quota_size_regex", "maildir_quota_directory_regex"):
            try:
                compile_regex(self.values.get(pattern, ""))
            except ExpansionError as error:
                yield ConfigError(f"{name}: {error.reason}", self.places.get(pattern))
        if self.directory is not None and not self.maildir_format and not self.mailstore_format:
            problem = "directory without maildir_format is known to Exim, not to mailsrv"
            yield ConfigError(f"{name}: {problem}", self.places.get("directory"))
        if self.file is not None and self.maildir_format:
            yield ConfigError(f"{name}: maildir_format needs directory, not file", self.where)
        if (self.check_string is None) != (self.escape_string is None):
            problem = f"{name}: check_string and escape_string must be set together"
            yield ConfigError(problem, self.where)

    async def deliver(self, batch: Batch) -> None:
        """See :meth:`Transport.deliver`."""
        from mailsrv.transport.headers import content_of, filtered
        from mailsrv.transport.maildir import OverQuota

        content = await filtered(self, batch, await content_of(self, batch))
        opener, path = await self._opener(batch, content)
        if path == "/dev/null":  # specification 26.3: no action, and a success
            await batch.settle([Outcome(a, Result.DELIVERED) for a in batch.addresses])
            return
        try:
            # fcntl() knows processes, not threads: one delivery into a file at a time in ours.
            async with batch.facilities.limits.hold({("file", path): 1}, batch.crew):
                written, size = await self._write(batch, opener, self.pieces(batch, content))
        except OverQuota as error:
            await batch.settle(
                [
                    Outcome(a, Result.DEFERRED, error.reason, error.status, error="quota")
                    for a in batch.addresses
                ]
            )
            return
        took = batch.facilities.clock.seconds() - batch.started
        await batch.settle(
            [
                Outcome(a, Result.DELIVERED, delivered_to=written, seconds=took, size=size)
                for a in batch.addresses
            ]
        )

    async def _opener(self, batch: Batch, content: Content) -> tuple[Callable[[], _Writer], str]:
        """Return what begins the delivery, and the path of the file or Maildir."""
        from mailsrv.transport.maildir import Maildir, MaildirWriter
        from mailsrv.transport.mbox import MailboxWriter

        scope, host = batch.scope(), batch.facilities.hostname
        now = batch.facilities.clock.seconds()
        path, is_directory = await self._path(batch)
        if is_directory:
            tag = await optional(self.maildir_tag, scope) or ""
            maildir = Maildir(
                path,
                host,
                self.create_directory,
                self.directory_mode,
                self.mode,
                "".join(c for c in tag if "!" <= c <= "~" and c != "/"),
                self.maildir_retries,
                await self._quota(scope),
                file_name(batch),
                now - batch.message.received_at > FRESH,
            )
            if batch.run_as is not None:
                return self._remote(batch, maildir, content.size, now), path
            return lambda: MaildirWriter(maildir, now, content.size), path
        quota = (await self._quota(scope)).size
        mailbox = self._mailbox(path, host, quota)
        if batch.run_as is not None:
            return self._remote(batch, mailbox, content.size, now), path
        return lambda: MailboxWriter(mailbox, content.size), path

    async def _quota(self, scope: Scope) -> Quota:
        """Expand the options about quotas; what follows a slash in them changes nothing here."""
        from mailsrv.transport.paths import expand_path

        folder = ""
        if self.quota_directory is not None:
            folder = await expand_path(self.quota_directory, scope, "quota_directory")
        return Quota(
            size_of((await expand(self.quota, scope) or "0").partition("/")[0]),
            size_of((await expand(self.quota_filecount, scope) or "0").partition("/")[0]),
            self.quota_is_inclusive,
            self.quota_size_regex or "",
            self.maildir_quota_directory_regex or DIRECTORIES,
            folder,
        )

    async def _path(self, batch: Batch) -> tuple[str, bool]:
        """Return where the message goes, and whether that is a Maildir.

        A file or directory that a redirection names comes before the options (26.1).

        :raises TemporaryFailure: it cannot go there.
        """
        from mailsrv.transport.paths import expand_path, whole_path

        first = batch.addresses[0]
        if first.place:
            path = whole_path(first.address, "file")
            if path.endswith("/") != self.maildir_format:
                raise TemporaryFailure(
                    reason=f"{self.name} transport: {path}: a Maildir ends with a slash and needs "
                    "maildir_format, a file has neither"
                )
            return path.rstrip("/") or "/", self.maildir_format
        if self.directory is not None:
            return await expand_path(self.directory, batch.scope(), "directory"), True
        if self.file is None:
            problem = f"Mandatory file or directory option missing from {self.name} transport"
            raise TemporaryFailure(reason=problem)
        return await expand_path(self.file, batch.scope(), "file"), False

    def _remote(
        self, batch: Batch, place: Mailbox | Maildir, size: int, now: float
    ) -> Callable[[], _Writer]:
        """Return what begins a delivery as another user, by the privileged process."""
        from mailsrv.transport.privileged.client import RemoteWriter
        from mailsrv.transport.privileged.wire import Request

        channel, run_as = batch.facilities.privileged, batch.run_as
        assert channel is not None
        assert run_as is not None
        request = Request(
            batch.transport, run_as.user, run_as.group, run_as.supplementary, place, size, now
        )
        return lambda: RemoteWriter(channel, request)

    def _mailbox(self, path: str, host: str, quota: int) -> Mailbox:
        from mailsrv.transport.mbox import Mailbox

        return Mailbox(
            path,
            host,
            create_directory=self.create_directory,
            directory_mode=self.directory_mode,
            mode=self.mode,
            mode_fail_narrower=self.mode_fail_narrower,
            check_owner=self.check_owner,
            check_group=self.check_group,
            allow_symlink=self.allow_symlink,
            must_exist=self.file_must_exist,
            use_lockfile=self.use_lockfile,
            use_fcntl=self.use_fcntl_lock,
            use_flock=self.use_flock_lock,
            lockfile_mode=self.lockfile_mode,
            lockfile_timeout=float(self.lockfile_timeout),
            quota=quota,
        )

    async def _write(
        self, batch: Batch, opener: Callable[[], _Writer], pieces: AsyncIterator[bytes]
    ) -> tuple[str, int]:
        """Write a message in a thread, in one go if it is in memory.

        Returns the file's path and the octets written.  A cancellation that comes when the
        message may be in the mailbox already has no effect, else nothing is left behind.
        """
        from twisted.internet.defer import CancelledError

        from mailsrv.transport.uncut import uncut

        threads = batch.facilities.threads
        if batch.message.body.inline is not None:
            data = b"".join([piece async for piece in pieces])
            return (await self._unlocked(batch, lambda: _at_once(opener, data)))[0], len(data)
        (writer, cancelled), size = await self._unlocked(batch, opener), 0
        try:
            if cancelled:
                raise CancelledError
            async for piece in pieces:
                await threads.run(writer.write, piece)
                size += len(piece)
            return (await uncut(threads.run(writer.finish)))[0], size
        except BaseException:
            await uncut(threads.run(writer.abort))
            raise

    async def _unlocked(self, batch: Batch, function: Callable[[], T]) -> tuple[T, bool]:
        """Call ``function`` in a thread, again while others hold the mailbox' lock.

        A call that has begun ends; the second result tells whether we were cancelled meanwhile.
        """
        from mailsrv.transport.mbox import Busy
        from mailsrv.transport.uncut import uncut

        tries = max(self.lock_retries, 1)
        reason = ""
        for attempt in range(tries):
            if attempt:
                await _sleep(batch, float(self.lock_interval))
            try:
                return await uncut(batch.facilities.threads.run(function))
            except Busy as busy:
                reason = str(busy)
        raise TemporaryFailure(reason=f"failed to lock mailbox ({reason})")


def file_name(batch: Batch) -> str:
    """Return the name of the message's file in a Maildir: the same at each attempt, and no other's.

    It is made of the message's id, where the addresses come from, and what delivers them.
    """
    from mailsrv.transport.maildir import host_part

    origins = [batch.transport]
    for each in batch.addresses:
        line = (each.address, *(ancestor.address for ancestor in each.ancestors()))
        origins.append("\0".join((each.router, *line)))
    text = "\n".join(origins).encode("utf-8", "backslashreplace")
    which = blake2b(text, digest_size=6).hexdigest()
    message = batch.message
    host = host_part(batch.facilities.hostname)
    return f"{int(message.received_at)}.M{message.id}R{which}.{host}"


def _at_once(opener: Callable[[], _Writer], data: bytes) -> str:
    """Write a whole message."""
    writer = opener()
    try:
        writer.write(data)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


async def _sleep(batch: Batch, seconds: float) -> None:
    from twisted.internet.defer import Deferred

    done: Deferred[None] = Deferred()
    timer = batch.facilities.clock.callLater(seconds, done.callback, None)
    try:
        await done
    finally:
        if timer.active():  # cancelled
            timer.cancel()
