"""Make what ``conf/demo.conf`` needs below ``var/``, then become the demo server.

Run by ``make run`` with the Python of its virtual environment.  Root's server drops to ``nobody``,
who cannot enter root's folders: ``var`` is then a link to a folder below ``/var/tmp``.
"""

from __future__ import annotations

import datetime
import grp
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CHECKOUT = Path(__file__).resolve().parents[1]
HOST = "mail.demo.example"
USER, PASSWORD = "demo", "demo"

HINTS = f"""\

The demo server listens on 127.0.0.1:2525 and, with STARTTLS and a login, on 127.0.0.1:5587.
Send the first message from another terminal:

  swaks -s 127.0.0.1:5587 -tls -a -au {USER} -ap {PASSWORD} \\
      -f {USER}@demo.example -t anna@demo.example

or with plain Python:

  python3 -c "import smtplib; s = smtplib.SMTP('127.0.0.1', 2525); \
s.sendmail('me@client.example', ['anna@demo.example'], 'Subject: first\\n\\nhello'); s.quit()"

It lands in var/mail/anna/new/ - the log is var/log/mainlog.  End the server with Ctrl-C.
"""


def account() -> pwd.struct_passwd:
    """Return the account that the server runs as."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def folder(owner: pwd.struct_passwd) -> Path:
    """Return the real folder behind ``var``, owned by the server's account."""
    var = CHECKOUT / "var"
    if not var.exists():
        var.unlink(missing_ok=True)  # a link whose folder is gone
        if os.geteuid() == 0:
            var.symlink_to(tempfile.mkdtemp(prefix="mailsrv-demo-", dir="/var/tmp"))
            os.chown(var, owner.pw_uid, owner.pw_gid)
        else:
            var.mkdir()
    if var.stat().st_uid != owner.pw_uid:
        sys.exit("var/ is of another user's demo: remove it (rm -r var), or run as that user.")
    return var.resolve()


def certificate(var: Path) -> None:
    """Make a self-signed certificate, once."""
    path = var / "cert.pem"
    if path.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(var / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def passwords(var: Path, owner: pwd.struct_passwd) -> None:
    """Make the demo user's entry in a dbm file, once; the password is stored hashed."""
    if list(var.glob("passwd*")):
        return
    subprocess.run(
        [Path(sys.executable).with_name("mailsrv-passwd"), "--stdin", var / "passwd", USER],
        input=f"{PASSWORD}\n".encode(),
        check=True,
    )
    for path in var.glob("passwd*"):
        path.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(path, owner.pw_uid, owner.pw_gid)


def main() -> None:
    """Prepare, say how to send the first message, and become ``twistd``."""
    owner = account()
    var = folder(owner)
    certificate(var)
    passwords(var, owner)
    print(HINTS, flush=True)
    os.chdir(CHECKOUT)
    words = ["twistd", "-n", "--pidfile=", "mailsrv", "--config", "conf/demo.conf"]
    for macro, value in (
        ("DEMO_VAR", var),
        ("DEMO_USER", owner.pw_name),
        ("DEMO_GROUP", grp.getgrgid(owner.pw_gid).gr_name),
    ):
        words += ["-D", f"{macro}={value}"]
    os.execv(Path(sys.executable).with_name("twistd"), words)


main()
