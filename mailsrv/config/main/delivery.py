"""Queue, routing and delivery (chapter 14)."""

from __future__ import annotations

from mailsrv.config.main.reasons import (
    DNSSEC,
    NO_SCANNING,
    OWN_PROCESSES,
    OWN_SPOOL,
    QUEUE_ONLY_WINS,
    UNUSED,
)
from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import (
    BOOLEAN,
    DOMAIN_LIST,
    EXPANDED,
    FIXED,
    GROUP,
    INTEGER,
    STRING,
    STRING_LIST,
    TIME,
    USER,
    USER_LIST,
)

_FILTERED = "transport of what the system filter saves, pipes or answers"
_DNS_CHECK_NAMES_PATTERN = "(?i)^(?>(?(1)\\.|())[^\\W](?>[a-z0-9/_-]*[^\\W])?)+(\\.?)$"


class DeliveryOptions(OptionSet):
    """Queue, routing and delivery (chapter 14)."""

    auto_thaw = option(TIME, 0, help="when a frozen message is tried again")
    deliver_drop_privilege = option(BOOLEAN, False, help="never deliver as root or as another user")
    deliver_queue_load_max = option(
        FIXED, help="system load above which a queue run delivers nothing", no_effect=OWN_PROCESSES
    )
    disable_ipv6 = option(BOOLEAN, False, help="use no IPv6")
    allow_mx_to_ip = option(BOOLEAN, False, help="take MX records that point to IP addresses")
    dns_again_means_nonexist = option(
        DOMAIN_LIST, help="domains that do not exist when their lookup fails for now"
    )
    dns_check_names_pattern = option(
        STRING, _DNS_CHECK_NAMES_PATTERN, help="names that are looked up in the DNS"
    )
    dns_cname_loops = option(INTEGER, 1, help="CNAME records that are followed", no_effect=UNUSED)
    dns_csa_search_limit = option(INTEGER, 5, help="parents whose CSA records are looked for")
    dns_csa_use_reverse = option(BOOLEAN, True, help="look for CSA records of addresses")
    dns_dnssec_ok = option(INTEGER, -1, help="ask for DNSSEC records", no_effect=DNSSEC)
    dns_trust_aa = option(
        DOMAIN_LIST, help="domains whose own servers count as validated", no_effect=DNSSEC
    )
    dns_ipv4_lookup = option(DOMAIN_LIST, help="domains for which no AAAA records are looked up")
    dns_retrans = option(TIME, 0, help="time-out of a DNS query")
    dns_retry = option(INTEGER, 0, help="repetitions of a DNS query")
    dns_servers = option(STRING_LIST, help="name servers: address or [address]:port", ours=True)
    dns_use_edns0 = option(
        INTEGER,
        -1,
        help="use EDNS0 in DNS queries",
        no_effect="EDNS0 is used, and left out for servers that refuse it",
    )
    event_action = option(EXPANDED, help="expanded at each event of a delivery", unbuilt=True)
    finduser_retries = option(
        INTEGER, 0, help="repetitions of a failing password file lookup", no_effect=UNUSED
    )
    gecos_name = option(EXPANDED, help="user name that gecos_pattern finds")
    gecos_pattern = option(STRING, help="where the user name is in the gecos field")
    hosts_treat_as_local = option(
        DOMAIN_LIST, help="names of hosts that are as if they were this host"
    )
    hold_domains = option(DOMAIN_LIST, help="domains whose messages stay in the queue")
    local_scan_path = option(STRING, help="module of local_scan()", no_effect=NO_SCANNING)
    local_scan_timeout = option(TIME, 300, help="time-out of local_scan()", no_effect=NO_SCANNING)
    max_username_length = option(
        INTEGER, 0, help="longest user name that is looked up", no_effect=UNUSED
    )
    move_frozen_messages = option(
        BOOLEAN, False, help="move frozen messages to another folder", no_effect=OWN_SPOOL
    )
    mua_wrapper = option(
        BOOLEAN, False, help="serve one user's mail program, without a queue", unbuilt=True
    )
    never_users = option(USER_LIST, help="users as whom nothing is delivered, besides root")
    queue_domains = option(DOMAIN_LIST, help="domains whose messages are not delivered at once")
    queue_fast_ramp = option(
        BOOLEAN,
        False,
        help="deliver in parallel during the first phase of a queue run",
        no_effect=OWN_PROCESSES,
    )
    queue_only = option(BOOLEAN, False, help="only queue, deliver nothing at once")
    queue_only_file = option(
        STRING, help="files; while one exists, messages are only queued (smtp/… as well)"
    )
    queue_only_load = option(
        FIXED, help="system load above which messages are only queued", no_effect=OWN_PROCESSES
    )
    queue_only_load_latch = option(
        BOOLEAN, True, help="decide queue_only_load once for a connection", no_effect=OWN_PROCESSES
    )
    queue_only_override = option(
        BOOLEAN, True, help="-odx may override queue_only", no_effect=QUEUE_ONLY_WINS
    )
    queue_run_in_order = option(
        BOOLEAN, False, help="deliver in the order of arrival", no_effect=OWN_PROCESSES
    )
    queue_run_max = option(EXPANDED, "5", help="queue runs at a time", no_effect=OWN_PROCESSES)
    queue_smtp_domains = option(
        DOMAIN_LIST, help="domains whose messages are not sent to other hosts at once"
    )
    remote_max_parallel = option(INTEGER, 2, help="parallel remote deliveries of one message")
    remote_sort_domains = option(
        DOMAIN_LIST, help="order of the remote deliveries of one message", no_effect=OWN_PROCESSES
    )
    retry_data_expire = option(TIME, 604800, help="when retry hints are forgotten")
    retry_interval_max = option(TIME, 86400, help="longest interval of a retry rule")
    system_filter = option(EXPANDED, help="a filter for all messages", unbuilt=True)
    system_filter_directory_transport = option(EXPANDED, help=_FILTERED)
    system_filter_file_transport = option(EXPANDED, help=_FILTERED)
    system_filter_group = option(GROUP, help="the system filter's group")
    system_filter_pipe_transport = option(EXPANDED, help=_FILTERED)
    system_filter_reply_transport = option(EXPANDED, help=_FILTERED)
    system_filter_user = option(USER, help="the system filter's user")
    timeout_frozen_after = option(TIME, 0, help="when a frozen message is given up")
