"""The table of situations: what a domain shows to the world, and what has to become of its mail.

Each situation has a domain and mail hosts of its own, so that its outcome is nobody else's. `expected` is what the host
proves to whom Barid delivers (`dane`, `mta-sts`, `fingerprint`; `pkix`: its name, be that demanded or not; `unproven`:
nothing, but there is TLS; `clear`: nothing, without TLS), or `deferred`. Where no settings of Barid's count, Postfix's
SMTP client with its resolver for MTA-STS has to come out the same, but for those few of which `differs` says
otherwise. And `finger` is what posttls-finger says, which does not deliver, nor say whether it would:

  verified, trusted   TLSA records prove the host; trusted where the MX records are not signed
  unproven            TLSA records, none of which fits
  untrusted           TLS, but no proof that counts
  no-tls, broken      TLS is not offered; or it is, but does not come about
  lookup              what has to be known cannot be looked up
  none                it is not asked: it knows neither MTA-STS nor settings
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Certificate:
    """What a server shows."""
    # "itself"; "trusted": a root that Barid is told of; "foreign": one it is not; "intermediate": below foreign
    issuer: str = "itself"
    # {host} and {domain} stand for those names
    name: str = "{host}"
    expired: bool = False
    # issuers that are shown along with it
    sends: tuple = ()
    # "p256" or "rsa"
    kind: str = "p256"
    # certificates of one name that differ here have keys of their own
    serial: int = 1


@dataclass(frozen=True)
class Host:
    """A mail host."""
    # "@": the domain itself is the host, by its address records
    label: str = "mx"
    certificate: Certificate = Certificate()
    # "offered"; "absent"; "old": no version that may be spoken; "1.2"; "lost": STARTTLS is answered with 454
    tls: str = "offered"
    # USAGE SELECTOR MATCHING OF-WHAT, which is one of those in certificates.association
    tlsa: tuple = ()
    # where they are: "name"; by way of "cname", "insecure-cname", "dname" or "wildcard"; or "lame": nobody answers
    tlsa_by: str = "name"
    # the zone of its name, if it is not the domain's
    home: str = ""
    # its name is an alias for one in this zone, which has the addresses and `tlsa`
    alias: str = ""
    alias_tlsa: tuple = ()
    # it has no other address
    ipv6: bool = False
    # types of its records whose signatures are broken
    bogus: tuple = ()
    # whose software it is: "aiosmtpd", "postfix" or "exim"
    server: str = "aiosmtpd"
    # its certificate is for those who ask for its name; others are shown another
    sni: bool = False


@dataclass(frozen=True)
class Policy:
    """An MTA-STS policy and how it is served."""
    mode: str = "enforce"
    # {domain} stands for the domain
    mx: tuple = ("mx.{domain}",)
    txt: tuple = ("v=STSv1; id=1;",)
    # the TXT records are an alias's
    txt_by_cname: bool = False
    # the whole text, where it is not made of the above
    text: str = ""
    line_end: str = "\r\n"
    # "file"; "missing"; "redirect" to where the same is found; "oversize"; "slow"; "gone": nobody listens
    served: str = "file"
    content_type: str = "text/plain"
    # what its server shows
    shows: Certificate = Certificate(issuer="trusted")


@dataclass(frozen=True)
class Situation:
    name: str
    expected: str
    finger: str
    hosts: tuple = (Host(),)
    zone: str = "signed.test"
    # the label of the host that gets the mail, if it is not the first
    via: str = ""
    policy: Policy | None = None
    # Barid's setting for the domain, and the certificates that it names: "leaf" or "other"
    override: str = ""
    fingerprints: tuple = ()
    # where its MX records are: "name"; by way of "cname" or "wildcard"
    mx_by: str = "name"
    bogus_mx: bool = False
    # what Postfix does otherwise
    differs: str = ""
    # what has changed, and is expected, when its second message comes
    later: dict | None = None

    @property
    def domain(self):
        return f"any.{self.name}.{self.zone}" if self.mx_by == "wildcard" else f"{self.name}.{self.zone}"

    @property
    def postfix(self):
        """What becomes of its mail with Postfix."""
        return "none" if self.override else self.differs or self.expected

    @property
    def receiver(self):
        return next(host for host in self.hosts if self.via in ("", host.label))

    def host_name(self, host):
        return self.domain if host.label == "@" else f"{host.label}.{self.name}.{host.home or self.zone}"

    def address_name(self, host):
        """The name that has the addresses."""
        return f"target.{self.name}.{host.alias}" if host.alias else self.host_name(host)

    def afterwards(self):
        return replace(self, **self.later) if self.later else self


ITSELF = Certificate()
RENEWED = Certificate(serial=2)
EXPIRED = Certificate(expired=True)
FOREIGN = Certificate(issuer="foreign")
ISSUED = Certificate(issuer="foreign", sends=("foreign",))
CHAINED = Certificate(issuer="intermediate", sends=("intermediate",))
TRUSTED = Certificate(issuer="trusted")
MISNAMED = Certificate(issuer="trusted", name="elsewhere.test")

RIGHT, WRONG, ISSUER = "3 1 1 leaf", "3 1 1 other", "2 1 1 issuer"


def one(name, expected, finger, *tlsa, zone="signed.test", **host):
    """A domain with one mail host."""
    return Situation(name, expected, finger, (Host(tlsa=tlsa, **host),), zone)


def two(name, expected, finger, via, first, second, **more):
    """A domain with a mail host and another to fall back to."""
    hosts = replace(first, label="mx1"), replace(second, label="mx2")
    return Situation(name, expected, finger, hosts, via=via, **more)


END_ENTITY = [
    one("ee-key", "dane", "verified", "3 1 1 leaf"),
    one("ee-key-sha512", "dane", "verified", "3 1 2 leaf"),
    one("ee-key-full", "dane", "verified", "3 1 0 leaf"),
    one("ee-cert", "dane", "verified", "3 0 1 leaf"),
    one("ee-cert-sha512", "dane", "verified", "3 0 2 leaf"),
    one("ee-cert-full", "dane", "verified", "3 0 0 leaf"),
    # nothing but the record counts (RFC 7672, 3.1.1)
    one("ee-expired", "dane", "verified", RIGHT, certificate=EXPIRED),
    one("ee-misnamed", "dane", "verified", RIGHT, certificate=MISNAMED),
    one("ee-foreign", "dane", "verified", RIGHT, certificate=FOREIGN),
    one("ee-rsa", "dane", "verified", RIGHT, certificate=Certificate(kind="rsa")),
    one("ee-tls12", "dane", "verified", RIGHT, tls="1.2"),
    one("ee-sni", "dane", "verified", RIGHT, sni=True),
    one("ee-ipv6", "dane", "verified", RIGHT, ipv6=True),
    one("ee-wrong", "deferred", "unproven", WRONG),
    one("ee-wrong-but-trusted", "deferred", "unproven", WRONG, certificate=TRUSTED),
    one("ee-wrong-full", "deferred", "unproven", "3 0 0 other"),
    one("ee-key-taken-for-cert", "deferred", "unproven", "3 0 1 leaf-key"),
    one("ee-one-of-two", "dane", "verified", WRONG, RIGHT),
    one("ee-one-of-two-kinds", "dane", "verified", "3 1 2 other", "3 0 1 leaf"),
    # of one usage and selector only the strongest digests count (RFC 7671, 9)
    one("ee-weaker-digest-right", "deferred", "unproven", RIGHT, "3 1 2 other"),
    # published ahead; and not
    Situation("ee-renewed", "dane", "verified", (Host(tlsa=(RIGHT, "3 1 1 renewed")),),
              later={"hosts": (Host(tlsa=(RIGHT, "3 1 1 renewed"), certificate=RENEWED),)}),
    Situation("ee-renewed-untold", "dane", "verified", (Host(tlsa=(RIGHT,)),),
              later={"hosts": (Host(tlsa=(RIGHT,), certificate=RENEWED),), "expected": "deferred"}),
]

TRUST_ANCHOR = [
    one("ta-key", "dane", "verified", "2 1 1 issuer", certificate=ISSUED),
    one("ta-cert", "dane", "verified", "2 0 1 issuer", certificate=ISSUED),
    one("ta-cert-full", "dane", "verified", "2 0 0 issuer", certificate=ISSUED),
    one("ta-key-sha512", "dane", "verified", "2 1 2 issuer", certificate=ISSUED),
    one("ta-intermediate", "dane", "verified", "2 1 1 issuer", certificate=CHAINED),
    one("ta-root", "dane", "verified", "2 0 1 root", certificate=replace(CHAINED, sends=("intermediate", "foreign"))),
    # names count here: that of the host, or of the domain (RFC 7672, 3.2.2)
    one("ta-named-as-domain", "dane", "verified", ISSUER, certificate=replace(ISSUED, name="{domain}")),
    one("ta-wildcard", "dane", "verified", ISSUER, certificate=replace(ISSUED, name="*.{domain}")),
    one("ta-misnamed", "deferred", "unproven", ISSUER, certificate=replace(ISSUED, name="elsewhere.test")),
    one("ta-expired", "deferred", "unproven", "2 0 1 issuer", certificate=replace(ISSUED, expired=True)),
    one("ta-wrong", "deferred", "unproven", "2 1 1 other", certificate=ISSUED),
    one("ta-not-sent", "deferred", "unproven", ISSUER, certificate=FOREIGN),
    # the record holds what is not sent
    one("ta-in-record", "dane", "verified", "2 0 0 issuer", certificate=FOREIGN),
    # an anchor stands above a certificate, and is not it
    one("ta-names-leaf", "deferred", "unproven", "2 1 1 leaf"),
    one("ta-wrong-ee-right", "dane", "verified", "2 1 1 other", RIGHT, certificate=ISSUED),
]

UNUSABLE = [
    one("usage-0", "unproven", "untrusted", "0 1 1 issuer", certificate=ISSUED),
    one("usage-1", "unproven", "untrusted", "1 1 1 leaf"),
    one("usage-unknown", "unproven", "untrusted", "4 1 1 leaf"),
    one("selector-unknown", "unproven", "untrusted", "3 2 1 leaf"),
    one("matching-unknown", "unproven", "untrusted", "3 1 3 leaf"),
    one("digest-too-short", "unproven", "untrusted", "3 1 1 short"),
    one("usage-1-wrong", "unproven", "untrusted", "1 1 1 other"),
    # TLS is a must all the same (RFC 7672, 2.2)
    one("usage-1-without-tls", "deferred", "no-tls", "1 1 1 leaf", tls="absent"),
    one("usage-1-old-tls", "deferred", "broken", "1 1 1 leaf", tls="old"),
    one("usage-1-beside-right", "dane", "verified", "1 1 1 leaf", RIGHT),
    one("usage-1-beside-wrong", "deferred", "unproven", "1 1 1 leaf", WRONG),
    one("digest-too-short-beside-right", "dane", "verified", "3 1 1 short", RIGHT),
]

STRIPPED = [
    one("tls-absent", "deferred", "no-tls", RIGHT, tls="absent"),
    one("tls-old", "deferred", "broken", RIGHT, tls="old"),
    one("tls-lost", "deferred", "broken", RIGHT, tls="lost", server="postfix"),
]

SEVERAL_HOSTS = [
    # posttls-finger looks no further than to the first that it may ask
    two("first-fails-second-fits", "dane", "unproven", "mx2", Host(tlsa=(WRONG,)), Host(tlsa=(RIGHT,))),
    two("first-without-tls-second-fits", "dane", "no-tls", "mx2",
        Host(tlsa=(RIGHT,), tls="absent"), Host(tlsa=(RIGHT,))),
    two("first-bogus-second-fits", "dane", "lookup", "mx2",
        Host(tlsa=(RIGHT,), bogus=("TLSA",)), Host(tlsa=(RIGHT,))),
    two("first-fails-second-clear", "clear", "unproven", "mx2", Host(tlsa=(WRONG,)), Host(tls="absent")),
    two("first-clear-second-fits", "clear", "no-tls", "mx1", Host(tls="absent"), Host(tlsa=(RIGHT,))),
    two("both-fail", "deferred", "unproven", "", Host(tlsa=(WRONG,)), Host(tlsa=(RIGHT,), tls="absent")),
]

ALIASES = [
    one("host-alias", "dane", "verified", RIGHT, alias="signed.test"),
    Situation("host-alias-tlsa-there", "dane", "verified", (Host(alias="signed.test", alias_tlsa=(RIGHT,)),)),
    # the records of the name in the end come first (RFC 7672, 2.2)
    one("host-alias-tlsa-at-both", "deferred", "unproven", WRONG, alias="signed.test", alias_tlsa=(RIGHT,)),
    one("host-alias-into-other-zone", "dane", "verified", RIGHT, alias="nsec3.test"),
    one("host-alias-into-insecure", "unproven", "untrusted", RIGHT, alias="unsigned.test"),
    # the alias itself is signed
    Situation("host-alias-into-insecure-tlsa-there", "dane", "verified",
              (Host(alias="unsigned.test", alias_tlsa=(RIGHT,)),)),
    Situation("host-alias-into-insecure-tlsa-wrong", "deferred", "unproven",
              (Host(alias="unsigned.test", alias_tlsa=(WRONG,)),)),
    one("host-alias-from-insecure", "unproven", "untrusted", RIGHT, zone="unsigned.test", alias="signed.test"),
    Situation("domain-alias", "dane", "verified", (Host(tlsa=(RIGHT,)),), mx_by="cname"),
    Situation("mx-wildcard", "dane", "verified", (Host(tlsa=(RIGHT,)),), mx_by="wildcard"),
    one("tlsa-alias", "dane", "verified", RIGHT, tlsa_by="cname"),
    one("tlsa-alias-below", "dane", "verified", RIGHT, tlsa_by="dname"),
    one("tlsa-wildcard", "dane", "verified", RIGHT, tlsa_by="wildcard"),
    one("tlsa-wildcard-wrong", "deferred", "unproven", WRONG, tlsa_by="wildcard"),
    one("tlsa-alias-into-insecure", "unproven", "untrusted", WRONG, tlsa_by="insecure-cname"),
]

ZONES = [
    one("no-tlsa", "unproven", "untrusted"),
    one("no-tlsa-nsec3", "unproven", "untrusted", zone="nsec3.test"),
    one("no-tlsa-no-tls", "clear", "no-tls", tls="absent"),
    # Postfix goes on without TLS when the message has waited for a while
    replace(one("no-tlsa-old-tls", "clear", "broken", tls="old"), differs="deferred"),
    one("no-tlsa-lost-tls", "clear", "broken", tls="lost", server="postfix"),
    one("no-tlsa-expired", "unproven", "untrusted", certificate=EXPIRED),
    # Postfix does not look at names that nobody demands
    replace(one("no-tlsa-trusted", "pkix", "untrusted", certificate=TRUSTED), differs="unproven"),
    one("nsec3", "dane", "verified", RIGHT, zone="nsec3.test"),
    one("nsec3-wrong", "deferred", "unproven", WRONG, zone="nsec3.test"),
    one("nsec3-wildcard", "dane", "verified", RIGHT, zone="nsec3.test", tlsa_by="wildcard"),
    one("opt-out", "dane", "verified", RIGHT, zone="opt-out.test"),
    one("insecure", "unproven", "untrusted", WRONG, zone="unsigned.test"),
    one("insecure-no-tls", "clear", "no-tls", WRONG, zone="unsigned.test", tls="absent"),
    one("insecure-below-nsec3", "unproven", "untrusted", WRONG, zone="unsigned.nsec3.test"),
    one("insecure-below-opt-out", "unproven", "untrusted", WRONG, zone="unsigned.opt-out.test"),
    one("insecure-island", "unproven", "untrusted", WRONG, zone="island.test"),
    one("insecure-algorithm", "unproven", "untrusted", WRONG, zone="future.test"),
    one("rsa", "dane", "verified", RIGHT, zone="rsa.test"),
    one("ed25519", "dane", "verified", RIGHT, zone="ed25519.test"),
    one("p384", "dane", "verified", RIGHT, zone="p384.test"),
    # hosts' zones count for themselves (RFC 7672, 2.2.1)
    one("insecure-mx", "dane", "trusted", RIGHT, zone="unsigned.test", home="signed.test"),
    one("insecure-mx-wrong", "deferred", "unproven", WRONG, zone="unsigned.test", home="signed.test"),
    one("insecure-mx-ta", "dane", "trusted", ISSUER, zone="unsigned.test", home="signed.test", certificate=ISSUED),
    # the name of a domain whose MX records anybody may have written is none of the host's (RFC 7672, 3.2.2); Postfix
    # 3.7 takes it for one
    replace(one("insecure-mx-ta-named-as-domain", "deferred", "trusted", ISSUER, zone="unsigned.test",
                home="signed.test", certificate=replace(ISSUED, name="{domain}")), differs="dane"),
    one("insecure-host", "unproven", "untrusted", WRONG, home="unsigned.test"),
    Situation("host-is-domain", "dane", "verified", (Host("@", tlsa=(RIGHT,)),)),
    Situation("host-is-domain-wrong", "deferred", "unproven", (Host("@", tlsa=(WRONG,)),)),
]

BOGUS = [
    one("bogus-tlsa", "deferred", "lookup", RIGHT, bogus=("TLSA",)),
    one("bogus-address", "deferred", "lookup", RIGHT, bogus=("A",)),
    Situation("bogus-mx", "deferred", "lookup", (Host(tlsa=(RIGHT,)),), bogus_mx=True),
    # that there are none is claimed, but not proved
    one("bogus-no-tlsa", "deferred", "lookup", bogus=("NSEC",)),
    one("bogus-no-tlsa-nsec3", "deferred", "lookup", zone="nsec3.test", bogus=("NSEC3",)),
    one("lame-tlsa", "deferred", "lookup", tlsa_by="lame"),
    # nobody asks for records that would not count (RFC 7672, 2.2)
    one("lame-tlsa-insecure", "unproven", "untrusted", zone="unsigned.test", tlsa_by="lame"),
    one("bogus-wrong-ds", "deferred", "lookup", RIGHT, zone="wrong-ds.test"),
    one("bogus-expired", "deferred", "lookup", RIGHT, zone="expired.test"),
    one("bogus-stripped", "deferred", "lookup", zone="stripped.test"),
    one("bogus-delegation", "deferred", "lookup", zone="undenied.test"),
    one("bogus-host-zone", "deferred", "lookup", RIGHT, home="expired.test"),
]

OTHERS = [
    one("postfix-key", "dane", "verified", RIGHT, server="postfix"),
    one("postfix-ta", "dane", "verified", ISSUER, server="postfix", certificate=ISSUED),
    one("postfix-wrong", "deferred", "unproven", WRONG, server="postfix"),
    one("postfix-no-tlsa", "unproven", "untrusted", server="postfix"),
    one("exim-key", "dane", "verified", RIGHT, server="exim"),
    one("exim-ta", "dane", "verified", ISSUER, server="exim", certificate=ISSUED),
    one("exim-wrong", "deferred", "unproven", WRONG, server="exim"),
    one("exim-no-tlsa", "unproven", "untrusted", server="exim"),
]


def sts(name, expected, certificate=TRUSTED, tls="offered", later=None, server="aiosmtpd", **policy):
    """A domain with an MTA-STS policy; where a policy does not count, its certificate is one that would not pass."""
    hosts = (Host(certificate=certificate, tls=tls, server=server),)
    return Situation(name, expected, "none", hosts, "unsigned.test", policy=Policy(**policy), later=later)


ENFORCED = [
    sts("sts", "mta-sts"),
    sts("sts-postfix", "mta-sts", server="postfix"),
    sts("sts-bare-line-feeds", "mta-sts", line_end="\n"),
    sts("sts-wildcard", "mta-sts", mx=("*.{domain}",)),
    sts("sts-wildcard-certificate", "mta-sts", replace(TRUSTED, name="*.{domain}")),
    sts("sts-txt-alias", "mta-sts", txt_by_cname=True),
    sts("sts-txt-beside-another", "mta-sts", txt=("something=else", "v=STSv1; id=1;")),
    sts("sts-txt-in-pieces", "mta-sts", txt=('v=ST" "Sv1; id=1;',)),
    sts("sts-unknown-fields", "mta-sts",
        text="version: STSv1\r\nfuture: 1\r\nmode: enforce\r\nmx: mx.{domain}\r\nmax_age: 86400\r\n"),
    sts("sts-misnamed", "deferred", MISNAMED),
    sts("sts-named-as-domain", "deferred", replace(TRUSTED, name="{domain}")),
    sts("sts-expired", "deferred", replace(TRUSTED, expired=True)),
    sts("sts-itself", "deferred", ITSELF),
    sts("sts-foreign", "deferred", ISSUED),
    sts("sts-no-tls", "deferred", tls="absent"),
    sts("sts-old-tls", "deferred", tls="old"),
    sts("sts-other-mx", "deferred", mx=("mx.elsewhere.test",)),
    # a star stands for one label; with Postfix for any number
    replace(sts("sts-wildcard-too-high", "deferred", mx=("*.unsigned.test",)), differs="mta-sts"),
    two("sts-one-of-two", "mta-sts", "none", "mx2", Host(certificate=TRUSTED), Host(certificate=TRUSTED),
        zone="unsigned.test", policy=Policy(mx=("mx2.{domain}",))),
    two("sts-second-passes", "mta-sts", "none", "mx2", Host(), Host(certificate=TRUSTED),
        zone="unsigned.test", policy=Policy(mx=("*.{domain}",))),
    Situation("sts-signed-zone", "mta-sts", "none", (Host(certificate=TRUSTED),), policy=Policy()),
]

NOT_ENFORCED = [
    sts("sts-testing", "unproven", ITSELF, mode="testing"),
    sts("sts-testing-other-mx", "unproven", ITSELF, mode="testing", mx=("mx.elsewhere.test",)),
    sts("sts-testing-no-tls", "clear", tls="absent", mode="testing"),
    sts("sts-testing-expired", "unproven", replace(TRUSTED, expired=True), mode="testing"),
    sts("sts-none", "unproven", ITSELF, mode="none"),
    sts("sts-missing", "unproven", ITSELF, served="missing"),
    sts("sts-gone", "unproven", ITSELF, served="gone"),
    sts("sts-redirect", "unproven", ITSELF, served="redirect"),
    sts("sts-oversize", "unproven", ITSELF, served="oversize"),
    sts("sts-slow", "unproven", ITSELF, served="slow"),
    sts("sts-html", "unproven", ITSELF, content_type="text/html"),
    sts("sts-server-misnamed", "unproven", ITSELF, shows=MISNAMED),
    sts("sts-server-foreign", "unproven", ITSELF, shows=ISSUED),
    sts("sts-server-expired", "unproven", ITSELF, shows=replace(TRUSTED, expired=True)),
    sts("sts-malformed", "unproven", ITSELF, text="mode = enforce\nmx = *\n"),
    sts("sts-without-version", "unproven", ITSELF, text="mode: enforce\r\nmx: mx.{domain}\r\nmax_age: 86400\r\n"),
    sts("sts-without-mx", "unproven", ITSELF, text="version: STSv1\r\nmode: enforce\r\nmax_age: 86400\r\n"),
    sts("sts-without-max-age", "unproven", ITSELF, text="version: STSv1\r\nmode: enforce\r\nmx: mx.{domain}\r\n"),
    sts("sts-txt-missing", "unproven", ITSELF, txt=()),
    # Postfix's resolver takes any id
    replace(sts("sts-txt-malformed", "unproven", ITSELF, txt=("v=STSv1; id=not-one;",)), differs="deferred"),
    sts("sts-txt-without-id", "unproven", ITSELF, txt=("v=STSv1;",)),
    sts("sts-txt-twice", "unproven", ITSELF, txt=("v=STSv1; id=1;", "v=STSv1; id=2;")),
]


def sts_later(name, expected, then, certificate, **policy):
    """A domain whose first message leaves by its policy, or freely; then it shows another certificate and policy."""
    first = Policy() if expected == "mta-sts" else Policy("none")
    later = {"policy": replace(first, **policy), "hosts": (Host(certificate=certificate),), "expected": then}
    return sts(name, expected, TRUSTED if expected == "mta-sts" else certificate, later=later, mode=first.mode)


NEW_ID = ("v=STSv1; id=2;",)
KEPT = [
    # what was found once counts for as long as it said (RFC 8461, 5.1)
    sts_later("sts-then-gone", "mta-sts", "mta-sts", TRUSTED, served="gone"),
    sts_later("sts-then-gone-and-misnamed", "mta-sts", "deferred", MISNAMED, served="gone"),
    sts_later("sts-then-no-txt", "mta-sts", "deferred", MISNAMED, txt=()),
    sts_later("sts-then-new-id-and-gone", "mta-sts", "deferred", MISNAMED, txt=NEW_ID, served="gone"),
    sts_later("sts-then-none", "mta-sts", "unproven", MISNAMED, txt=NEW_ID, mode="none"),
    sts_later("sts-then-other-mx", "mta-sts", "deferred", TRUSTED, txt=NEW_ID, mx=("mx.elsewhere.test",)),
    sts_later("sts-from-none", "unproven", "deferred", MISNAMED, txt=NEW_ID, mode="enforce"),
    sts("sts-from-nothing", "unproven", MISNAMED, txt=("something=else",),
        later={"policy": Policy(), "expected": "deferred"}),
]

BOTH = [
    # a policy makes up for no failure of DANE (RFC 8461, 2), nor does it undo its success; with Postfix it alone counts
    Situation("sts-passes-dane-fails", "deferred", "unproven", (Host(tlsa=(WRONG,), certificate=TRUSTED),),
              policy=Policy(), differs="mta-sts"),
    Situation("sts-fails-dane-passes", "dane", "verified", (Host(tlsa=(RIGHT,)),), policy=Policy(), differs="deferred"),
    Situation("sts-passes-dane-passes", "dane", "verified", (Host(tlsa=(RIGHT,), certificate=TRUSTED),),
              policy=Policy(), differs="mta-sts"),
    Situation("sts-passes-tlsa-unusable", "mta-sts", "untrusted", (Host(tlsa=("1 1 1 leaf",), certificate=TRUSTED),),
              policy=Policy()),
    Situation("sts-fails-tlsa-unusable", "deferred", "untrusted", (Host(tlsa=("1 1 1 leaf",)),), policy=Policy()),
]


def override(name, expected, mode, *fingerprints, policy=None, **host):
    """A domain for which Barid has a setting of its own."""
    return Situation(name, expected, "none", (Host(**host),), policy=policy, override=mode, fingerprints=fingerprints)


OVERRIDDEN = [
    override("require", "unproven", "require"),
    override("require-dane", "dane", "require", tlsa=(RIGHT,)),
    override("require-no-tls", "deferred", "require", tls="absent"),
    override("require-old-tls", "deferred", "require", tls="old"),
    override("require-lost-tls", "deferred", "require", tls="lost", server="postfix"),
    override("verify", "pkix", "verify", certificate=TRUSTED),
    override("verify-itself", "deferred", "verify"),
    override("verify-foreign", "deferred", "verify", certificate=ISSUED),
    override("verify-misnamed", "deferred", "verify", certificate=MISNAMED),
    override("verify-expired", "deferred", "verify", certificate=replace(TRUSTED, expired=True)),
    override("verify-no-tls", "deferred", "verify", tls="absent"),
    override("fingerprint", "fingerprint", "fingerprint", "leaf"),
    override("fingerprint-expired", "fingerprint", "fingerprint", "leaf", certificate=EXPIRED),
    override("fingerprint-one-of-two", "fingerprint", "fingerprint", "other", "leaf"),
    override("fingerprint-other", "deferred", "fingerprint", "other", certificate=TRUSTED),
    override("fingerprint-no-tls", "deferred", "fingerprint", "leaf", tls="absent"),
    # these weaken what the domain wishes
    override("opportunistic-over-dane", "unproven", "opportunistic", tlsa=(WRONG,)),
    override("opportunistic-over-dane-no-tls", "clear", "opportunistic", tlsa=(RIGHT,), tls="absent"),
    override("opportunistic-over-sts", "unproven", "opportunistic", policy=Policy()),
    override("never", "clear", "never"),
    override("never-over-dane", "clear", "never", tlsa=(RIGHT,)),
]

DANE = END_ENTITY + TRUST_ANCHOR + UNUSABLE + STRIPPED + SEVERAL_HOSTS + ALIASES + ZONES + BOGUS + OTHERS
MTA_STS = ENFORCED + NOT_ENFORCED + KEPT + BOTH
SITUATIONS = DANE + MTA_STS + OVERRIDDEN


def concerned(stage):
    """The situations at first, or those that have changed later."""
    if stage == "first":
        return SITUATIONS
    return [situation.afterwards() for situation in SITUATIONS if situation.later]
