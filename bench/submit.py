"""How many messages a second mailsrv takes and hands on, durable: ``python -m bench.submit``.

Everything runs on one machine and shares its cores: the clients (threads of this process), the
server, and a next hop that keeps nothing.  The numbers are for comparing two states of mailsrv on
one machine; they say little about another one.
"""

from __future__ import annotations

import argparse
import os
import platform
import smtplib
import time
from concurrent.futures import ThreadPoolExecutor

from tests.real import machine
from tests.real.server import Server
from tests.real.sink import Sink

BODY = "x" * 76 + "\r\n"


def send(port: int, count: int, text: str, kept: bool) -> None:
    """Send ``count`` messages, on one connection if ``kept``, else on one each."""
    client: smtplib.SMTP | None = None
    for number in range(count):
        client = client or smtplib.SMTP("127.0.0.1", port, "bench.example", timeout=60)
        client.sendmail("sender@x.example", [f"good{number}@x.example"], text)
        if not kept:
            client.quit()
            client = None
    if client is not None:
        client.quit()


def measure(clients: int, messages: int, size: int, kept: bool) -> None:
    """Run one measurement and print its line."""
    sink = Sink()
    server = Server("durability.conf", {"T_LMTP": sink.socket})
    try:
        server.start()
        text = "Subject: bench\r\n\r\n" + BODY * (size // len(BODY))
        each = messages // clients
        start = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            sending = [
                pool.submit(send, server.smtp_port, each, text, kept) for _ in range(clients)
            ]
        taken = time.monotonic() - start
        for one in sending:
            one.result()  # a refused message ends the measurement
        wanted = each * clients
        machine.wait_until(lambda: sink.delivered.total() >= wanted, "deliveries", 600)
        delivered = time.monotonic() - start
    finally:
        server.close()
        sink.close()
    way = "kept connections" if kept else "a connection each"
    print(
        f"{wanted} messages of {size} octets, {clients} clients, {way}: "
        f"{wanted / taken:.0f}/s accepted, {wanted / delivered:.0f}/s delivered"
    )


def main() -> None:
    """Measure both ways of sending."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--size", type=int, default=4000)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for kept in (False, True):
        measure(options.clients, options.messages, options.size, kept)


if __name__ == "__main__":
    main()
