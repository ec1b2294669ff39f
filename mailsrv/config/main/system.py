"""Files, users, logs and the machine (chapter 14)."""

from __future__ import annotations

from mailsrv.config.main.reasons import (
    NO_ADMINISTRATORS,
    NO_PERL,
    NO_SCANNING,
    OWN_PROCESSES,
    OWN_SPOOL,
    UNUSED,
)
from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import (
    BOOLEAN,
    EXPANDED,
    EXPANDED_PATH,
    GROUP,
    GROUP_LIST,
    INTEGER,
    KINT,
    STRING,
    TIME,
    USER,
    USER_LIST,
)

_FULL_LOG = "mail goes on when the logs' disk is full; lines that are lost go to standard error"


class SystemOptions(OptionSet):
    """Files, users, logs and the machine (chapter 14)."""

    add_environment = option(STRING, help="variables that are set in the environment")
    admin_groups = option(
        GROUP_LIST, help="groups whose members are administrators", no_effect=NO_ADMINISTRATORS
    )
    av_scanner = option(
        EXPANDED, "sophie:/var/run/sophie", help="virus scanner", no_effect=NO_SCANNING
    )
    bi_command = option(STRING, help="command of -bi")
    check_log_inodes = option(
        INTEGER, 100, help="free inodes that the log's disk must have", no_effect=_FULL_LOG
    )
    check_log_space = option(
        KINT, 10485760, help="free octets that the log's disk must have", no_effect=_FULL_LOG
    )
    check_spool_inodes = option(INTEGER, 100, help="free inodes that the spool's disk must have")
    check_spool_space = option(KINT, 10485760, help="free octets that the spool's disk must have")
    commandline_checks_require_admin = option(
        BOOLEAN,
        False,
        help="only administrators may use -be and -bt",
        no_effect=NO_ADMINISTRATORS,
    )
    debug_store = option(BOOLEAN, False, help="check the memory management", no_effect=UNUSED)
    exim_group = option(GROUP, help="group that the server runs as; by default that of exim_user")
    exim_path = option(STRING, help="path of the program", no_effect=UNUSED)
    exim_user = option(USER, help="user that the server runs as; by default mailsrv")
    exim_version = option(
        STRING, help="version that is told", no_effect="mailsrv tells its own version"
    )
    perl_at_start = option(BOOLEAN, False, help="start Perl with the server", no_effect=NO_PERL)
    perl_startup = option(STRING, help="what Perl runs first", no_effect=NO_PERL)
    perl_taintmode = option(BOOLEAN, False, help="Perl's -T", no_effect=NO_PERL)
    keep_environment = option(STRING, help="variables that are left in the environment")
    keep_malformed = option(
        TIME, 345600, help="how long damaged spool files are kept", no_effect=OWN_SPOOL
    )
    ldap_ca_cert_dir = option(STRING, help="folder of certificates for LDAP")
    ldap_ca_cert_file = option(STRING, help="file of certificates for LDAP")
    ldap_cert_file = option(STRING, help="client certificate for LDAP")
    ldap_cert_key = option(STRING, help="client key for LDAP")
    ldap_cipher_suite = option(
        STRING, help="ciphers for LDAP", no_effect="OpenSSL's own choice of ciphers is used"
    )
    ldap_default_servers = option(STRING, help="LDAP servers")
    ldap_require_cert = option(STRING, help="how LDAP servers are verified")
    ldap_start_tls = option(BOOLEAN, False, help="use STARTTLS with LDAP")
    ldap_version = option(
        INTEGER, -1, help="version of LDAP", no_effect="version 3 is the only one spoken"
    )
    local_socket = option(
        EXPANDED_PATH,
        "$spool_directory/submit",
        help="socket on which mailsrv-sendmail reaches the server",
        ours=True,
    )
    log_file_path = option(EXPANDED, "$spool_directory/log/%slog", help="log files, or syslog")
    log_json = option(BOOLEAN, False, help="write each event as JSON, too", ours=True)
    log_selector = option(STRING, help="what is logged besides the usual")
    log_timezone = option(BOOLEAN, False, help="write the time zone in the log")
    lookup_open_max = option(INTEGER, 25, help="files that lookups keep open", no_effect=UNUSED)
    message_logs = option(BOOLEAN, True, help="keep a log for each message while it is queued")
    mysql_servers = option(STRING, help="MySQL servers")
    notifier_socket = option(
        EXPANDED,
        "$spool_directory/exim_daemon_notify",
        help="socket that speaks to the daemon",
        no_effect=OWN_PROCESSES,
    )
    pgsql_servers = option(STRING, help="PostgreSQL servers")
    redis_servers = option(STRING, ours=True, help="Redis servers")
    pid_file_path = option(EXPANDED, "", help="file of the process id")
    preserve_message_logs = option(
        BOOLEAN, False, help="keep the logs of messages", no_effect=OWN_SPOOL
    )
    primary_hostname = option(STRING, help="name of this host; by default as the machine says")
    process_log_path = option(
        STRING, help="file in which exiwhat finds the processes", no_effect=OWN_PROCESSES
    )
    prod_requires_admin = option(
        BOOLEAN,
        True,
        help="only administrators may start deliveries",
        no_effect=NO_ADMINISTRATORS,
    )
    queue_list_requires_admin = option(
        BOOLEAN,
        True,
        help="only administrators may list the queue",
        no_effect=NO_ADMINISTRATORS,
    )
    python_startup = option(
        STRING, help="file of the functions that ${python{…}} can call", ours=True
    )
    python_timeout = option(TIME, 30, help="how long such a function may take", ours=True)
    slow_lookup_log = option(
        INTEGER, 0, help="milliseconds from which on a lookup is logged", no_effect=UNUSED
    )
    spamd_address = option(EXPANDED, "127.0.0.1 783", help="SpamAssassin", no_effect=NO_SCANNING)
    split_spool_directory = option(
        BOOLEAN, False, help="spread the spool over many folders", no_effect=OWN_SPOOL
    )
    spool_directory = option(
        EXPANDED_PATH,
        "/var/spool/mailsrv",
        help="folder of the queue and of what survives a restart",
    )
    spool_wireformat = option(BOOLEAN, False, help="keep bodies as they came", no_effect=OWN_SPOOL)
    sqlite_dbfile = option(STRING, help="default file of SQLite lookups")
    sqlite_lock_timeout = option(INTEGER, 5, help="time-out of SQLite lookups")
    strict_acl_vars = option(BOOLEAN, False, help="an ACL variable that is not set is an error")
    syslog_duplication = option(BOOLEAN, True, help="write rejections twice to syslog")
    syslog_facility = option(STRING, help="facility of syslog")
    syslog_pid = option(BOOLEAN, True, help="write the process id to syslog")
    syslog_processname = option(STRING, "exim", help="program name in syslog")
    syslog_timestamp = option(BOOLEAN, True, help="write the time to syslog")
    timezone = option(STRING, help="time zone of the logs")
    trusted_groups = option(GROUP_LIST, help="groups whose members may set a sender")
    trusted_users = option(USER_LIST, help="users that may set a sender")
    workers = option(
        INTEGER, 0, help="processes that serve; by default one for each core", ours=True
    )
    write_rejectlog = option(BOOLEAN, True, help="write the reject log")
