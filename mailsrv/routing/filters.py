"""The options about filters, which are declared and without effect: filters are not interpreted."""

from __future__ import annotations

from mailsrv.config.options import Option, option
from mailsrv.config.types import BOOLEAN, EXPANDED
from mailsrv.expansion.template import Template
from mailsrv.routing.router import Router

IN_FILTERS = "filters are not interpreted"


def _forbidden(what: str) -> Option[bool]:
    return option(BOOLEAN, default=False, help=f"no {what} in filters", no_effect=IN_FILTERS)


def _sieve(what: str) -> Option[Template | None]:
    return option(EXPANDED, help=f"{what} of Sieve filters", no_effect=IN_FILTERS)


class FilterOptions(Router):
    """What ``redirect`` has beside its own options."""

    allow_freeze = option(
        BOOLEAN, default=False, help="filters may freeze a message", no_effect=IN_FILTERS
    )
    filter_prepend_home = option(
        BOOLEAN, default=True, help="relative paths are below $home", no_effect=IN_FILTERS
    )
    forbid_exim_filter = _forbidden("language of Exim")
    forbid_filter_dlfunc = _forbidden("${dlfunc}")
    forbid_filter_existstest = _forbidden("test whether files exist")
    forbid_filter_logwrite = _forbidden("logwrite")
    forbid_filter_lookup = _forbidden("${lookup}")
    forbid_filter_perl = _forbidden("${perl}")
    forbid_filter_readfile = _forbidden("${readfile}")
    forbid_filter_readsocket = _forbidden("${readsocket}")
    forbid_filter_reply = _forbidden("reply")
    forbid_filter_run = _forbidden("${run}")
    forbid_sieve_filter = _forbidden("language of Sieve")
    reply_transport = option(
        EXPANDED, help="the transport of automatic replies", no_effect=IN_FILTERS
    )
    sieve_enotify_mailto_owner = _sieve("the sender of notifications")
    sieve_subaddress = _sieve("the :subaddress")
    sieve_useraddress = _sieve("the :user")
    sieve_vacation_directory = _sieve("the databases")
