"""``twistd mailsrv``: tells twistd where the service is made."""

from twisted.application.service import ServiceMaker

mailsrv = ServiceMaker(
    "mailsrv", "mailsrv.tap", "A mail server with Exim's configuration and model.", "mailsrv"
)
