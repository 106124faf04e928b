"""The table of reports on TLS (RFC 8460): which domains of the world want them, and what has to be in them.

What a report counts comes of the messages that tlsrpt.py sends: a first one to each domain; `later`, when the world
has moved on, another to those that have changed; and the next day `again` one to those that fail, and one that does
not.
"""

from dataclasses import dataclass, replace

from situations import SITUATIONS

SUBMITTER = "relay.interop.test"
SELECTOR = "reports"
COLLECTOR = "collector.signed.test"
# mailboxes of others' software, in domains that want reports as well
MAILBOXES = ("mailto:tls-reports@postfix-key.signed.test", "mailto:tls-reports@exim-key.signed.test")
MAILBOX, OTHER_MAILBOX = MAILBOXES
# at a domain that fails
OWN = "mailto:tls@{domain}"
POST = f"https://{COLLECTOR}/tls/{{domain}}"

BY_NAME = {situation.name: situation for situation in SITUATIONS}


@dataclass(frozen=True)
class Count:
    """Sessions under one policy; those that failed did so in one way."""
    kind: str
    successful: int = 0
    failed: int = 0
    result: str = ""
    # the label of the mail host; "": it was none's fault
    host: str = "mx"


@dataclass(frozen=True)
class Wanted:
    """A domain that wants reports."""
    # of its situation
    name: str
    first: tuple
    # what is added when the world has moved on
    later: tuple = ()
    rua: tuple = (MAILBOX,)
    # how its record is found: "plain"; by an "alias"; in "pieces"; "beside" another
    record: str = "plain"
    # the first messages, and recipients of each
    messages: int = 1
    recipients: int = 1
    # besides, a message goes there which is to arrive with or without TLS
    indifferent: bool = False

    @property
    def situation(self):
        return BY_NAME[self.name]

    @property
    def again(self):
        """What the next day's message leaves."""
        if self.situation.afterwards().expected == "deferred":
            return self.later or self.first
        return (kept("sts"),) if self.name == "sts" else ()

    @property
    def uris(self):
        return [uri.format(domain=self.situation.domain) for uri in self.rua]


def kept(kind, count=1, host="mx"):
    return Count(kind, count, host=host)


def failed(kind, result, host="mx"):
    return Count(kind, 0, 1, result, host)


def unusable(result):
    """The policy cannot be had, and mail goes as if there were none."""
    return kept("no-policy-found"), failed("sts", result, host="")


WANTED = [
    Wanted("sts", (kept("sts", 3),), record="alias", messages=3),
    # who has two recipients has one session
    Wanted("sts-wildcard", (kept("sts"),), record="beside", recipients=2),
    Wanted("sts-misnamed", (failed("sts", "certificate-host-mismatch"),)),
    Wanted("sts-foreign", (failed("sts", "certificate-not-trusted"),)),
    Wanted("sts-no-tls", (failed("sts", "starttls-not-supported"),), rua=(OWN,)),
    Wanted("sts-other-mx", (failed("sts", "certificate-host-mismatch", host=""),)),
    Wanted("sts-testing-expired", (failed("sts", "certificate-expired"),), record="pieces"),
    Wanted("sts-missing", unusable("sts-policy-fetch-error"), rua=(POST,)),
    Wanted("sts-server-expired", unusable("sts-webpki-invalid")),
    Wanted("sts-malformed", unusable("sts-policy-invalid")),
    Wanted("ee-key", (kept("tlsa"),), rua=(POST, MAILBOX)),
    Wanted("ee-wrong", (failed("tlsa", "validation-failure"),), rua=(OWN, POST), indifferent=True),
    Wanted("ta-misnamed", (failed("tlsa", "certificate-host-mismatch"),)),
    Wanted("ta-expired", (failed("tlsa", "certificate-expired"),)),
    Wanted("tls-absent", (failed("tlsa", "starttls-not-supported"),)),
    Wanted("usage-1", (failed("tlsa", "tlsa-invalid"),)),
    Wanted("bogus-tlsa", (failed("tlsa", "dnssec-invalid"),)),
    Wanted("first-fails-second-fits",
           (failed("tlsa", "validation-failure", host="mx1"), kept("tlsa", host="mx2")), rua=MAILBOXES),
    # hosts' policies have the names of hosts
    Wanted("insecure-mx", (kept("tlsa"),)),
    Wanted("no-tlsa", (kept("no-policy-found"),), rua=(POST,)),
    Wanted("no-tlsa-no-tls", (failed("no-policy-found", "starttls-not-supported"),)),
    Wanted("sts-none", (kept("no-policy-found"),)),
    Wanted("sts-then-gone-and-misnamed", (kept("sts"),), (failed("sts", "certificate-host-mismatch"),)),
    Wanted("sts-from-nothing", (kept("no-policy-found"),), (failed("sts", "certificate-host-mismatch"),)),
]

# what others publish, if anything: they get none
UNWANTED = {
    "ee-cert": (),
    "ee-rsa": (f"v=TLSRPTv1; rua={MAILBOX}", f"v=TLSRPTv1; rua={OTHER_MAILBOX}"),
    "ee-foreign": ("v=TLSRPTv1;",),
    "sts-postfix": (f"v=TLSRPTv2; rua={MAILBOX}",),
}


def records():
    """Owner, type and data of each."""
    for wanted in WANTED:
        yield from records_of(wanted)
    for name, texts in UNWANTED.items():
        for text in texts:
            yield f"_smtp._tls.{BY_NAME[name].domain}", "TXT", f'"{text}"'
    for uri in MAILBOXES:
        yield f"_smtp._tls.{uri.partition('@')[2]}", "TXT", f'"v=TLSRPTv1; rua={uri}"'


def records_of(wanted):
    owner, text = f"_smtp._tls.{wanted.situation.domain}", f"v=TLSRPTv1; rua={','.join(wanted.uris)};"
    match wanted.record:
        case "alias":
            elsewhere = f"{wanted.name}.reports.{wanted.situation.zone}"
            yield owner, "CNAME", f"{elsewhere}."
            owner = elsewhere
        case "pieces":
            text = f'{text[:14]}" "{text[14:]}'
        case "beside":
            yield owner, "TXT", '"something=else"'
    yield owner, "TXT", f'"{text}"'


def due(stage):
    """The reports of a day, by domain and where they go: of the first day, by `later`; of the next, by `again`."""
    domains = expected(stage, {})
    return [(wanted.situation.domain, uri) for wanted in WANTED if wanted.situation.domain in domains
            for uri in wanted.uris]


def expected(stage, addresses):
    """By domain, what was counted of the day when the stage is over; failures with the addresses of hosts."""
    found = {}
    for wanted in WANTED:
        counts = {"first": wanted.first, "later": wanted.first + wanted.later, "again": wanted.again}[stage]
        if counts:
            found[wanted.situation.domain] = policies(wanted.situation, counts, addresses)
    return found


def policies(situation, counts, addresses):
    """By type and domain: successes, failures, and the latter with result, host and address."""
    found = {}
    for count in counts:
        host = next((situation.host_name(host) for host in situation.hosts if host.label == count.host), "")
        key = count.kind, host if count.kind == "tlsa" else situation.domain
        successful, failures, details = found.get(key, (0, 0, ()))
        if count.failed:
            # nobody goes to whom the DNS is wrong about
            address = "" if count.result == "dnssec-invalid" else addresses.get(host, "")
            details += ((count.result, host, address, count.failed),)
        found[key] = successful + count.successful, failures + count.failed, details
    return found


def recipients(stage):
    """Situations by recipient."""
    found = {}
    match stage:
        case "first":
            for name in UNWANTED:
                found[f"first@{BY_NAME[name].domain}"] = BY_NAME[name]
            for wanted in WANTED:
                domain = wanted.situation.domain
                if wanted.indifferent:
                    found[f"indifferent@{domain}"] = replace(wanted.situation, expected="unproven")
                for number in range(wanted.messages * wanted.recipients):
                    found[f"first{number}@{domain}"] = wanted.situation
        case "later" | "again":
            for wanted in WANTED:
                if wanted.later if stage == "later" else wanted.again:
                    found[f"{stage}@{wanted.situation.domain}"] = wanted.situation.afterwards()
    return found
