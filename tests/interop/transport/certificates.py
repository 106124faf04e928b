"""Certificates of the situations, and what TLSA records say of them."""

import base64
import datetime
import functools
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
RSA_BITS = 2048
DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


def new_key(kind="p256"):
    return rsa.generate_private_key(65537, RSA_BITS) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def key_pem(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_text(key):
    """The public half, as DKIM records have it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(DER, form)).decode()


def subject(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def sign(key, name, extensions, issuer, since=-4 * DAY, until=4 * DAY):
    """A certificate for `name`; who has no issuer issues their own."""
    issued_by, issuer_key = (issuer.certificate.subject, issuer.key) if issuer else (subject(name), key)
    builder = x509.CertificateBuilder(issued_by, subject(name), key.public_key(), x509.random_serial_number(),
                                      NOW + since, NOW + until)
    extensions = [*extensions, x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
                  x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())]
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(issuer_key, hashes.SHA256())


class Issuer:
    def __init__(self, name, above=None):
        self.key, self.above = new_key(), above
        self.certificate = sign(self.key, f"{name} of the test", [x509.BasicConstraints(True, None)], above)


class Shown:
    """A certificate that a server shows."""

    def __init__(self, certificate, issuers, host, domain):
        name = certificate.name.format(host=host, domain=domain)
        self.key = new_key(certificate.kind)
        self.issuer = issuers.get(certificate.issuer)
        self.sends = [issuers[name] for name in certificate.sends]
        since, until = (-3 * DAY, -DAY) if certificate.expired else (-DAY, 3 * DAY)
        # one that somebody makes for themselves with openssl calls itself an authority
        extensions = [x509.SubjectAlternativeName([x509.DNSName(name)]), x509.BasicConstraints(not self.issuer, None),
                      x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]
        self.certificate = sign(self.key, name, extensions, self.issuer, since, until)

    @property
    def pem(self):
        """The key, the certificate, and what is sent along."""
        certificates = [self.certificate, *(issuer.certificate for issuer in self.sends)]
        return key_pem(self.key) + b"".join(certificate.public_bytes(PEM) for certificate in certificates)

    @property
    def fingerprint(self):
        return self.certificate.fingerprint(hashes.SHA256()).hex()


class Vault:
    """All issuers, and a certificate that nobody shows."""

    def __init__(self):
        self.issuers = {name: Issuer(name) for name in ("trusted", "foreign")}
        self.issuers["intermediate"] = Issuer("intermediate", self.issuers["foreign"])

    @functools.cached_property
    def other(self):
        return sign(new_key(), "other.test", [], None)

    @property
    def other_fingerprint(self):
        return self.other.fingerprint(hashes.SHA256()).hex()

    def show(self, certificate, host, domain):
        return Shown(certificate, self.issuers, host, domain)

    def trusted_pem(self):
        return self.issuers["trusted"].certificate.public_bytes(PEM)

    def association(self, record, shown, renewed):
        """The data of a TLSA record that is written as USAGE SELECTOR MATCHING OF-WHAT."""
        usage, selector, matching, what = record.split()
        of = {"leaf": shown.certificate, "leaf-key": shown.certificate, "renewed": renewed.certificate,
              "other": self.other, "short": self.other,
              "issuer": shown.issuer and shown.issuer.certificate, "root": self.issuers["foreign"].certificate}[what]
        selected = of.public_bytes(DER) if selector == "0" and what != "leaf-key" else of.public_key().public_bytes(
            DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = {"0": bytes, "2": lambda octets: hashlib.sha512(octets).digest()}.get(
            matching, lambda octets: hashlib.sha256(octets).digest())(selected)
        return f"{usage} {selector} {matching} {(digest[:7] if what == 'short' else digest).hex()}"
