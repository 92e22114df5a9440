"""The certificate of ``https://`` addresses: from files, which can be read again, or made for this machine."""

import datetime
import os
import socket
import ssl
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from hub.config.settings import Settings
from hub.config.sources import InvalidSetting

LASTS = datetime.timedelta(days=365)
"""How long a certificate of our own is valid; another is made at each start."""
_NAMES = ("localhost", "*.localhost")
_ADDRESSES = ("127.0.0.1", "::1")


class Certificate:
    """``context``: what servers take; connections that begin after `use` get the certificate of then."""

    def __init__(self, settings: Settings) -> None:
        """Raises `InvalidSetting`."""
        self.context = _context()
        if settings.tls_cert is None:
            _load_self_signed(self.context)
        else:
            self.use(settings)

    def check(self, settings: Settings) -> None:
        """Raises `InvalidSetting` where `use` would."""
        _load_files(_context(), settings)

    def use(self, settings: Settings) -> None:
        """Take the files as they are now. Raises `InvalidSetting`."""
        _load_files(self.context, settings)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_files(context: ssl.SSLContext, settings: Settings) -> None:
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except ssl.SSLError:
        raise InvalidSetting(
            "MERCURE_TLS_CERT and MERCURE_TLS_KEY: no certificate with its unencrypted key as PEM"
        ) from None
    except OSError as error:
        unreadable = next(
            (each for each in (settings.tls_cert, settings.tls_key) if not os.access(each, os.R_OK)), settings.tls_cert
        )
        raise InvalidSetting(f"the TLS file {unreadable!r} cannot be read: {error.strerror}") from None


def _load_self_signed(context: ssl.SSLContext) -> None:
    """A certificate for this machine's own names. Browsers ask before they trust it; curl takes --insecure."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mercure-hub, self-signed")])
    hosts = dict.fromkeys((*_NAMES, socket.gethostname()))
    names = [x509.DNSName(each) for each in hosts if each.isascii()]
    addresses = [x509.IPAddress(ip_address(each)) for each in _ADDRESSES]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LASTS)
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # OpenSSL wants a file; this one is in memory, for the root file system may be read-only.
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
