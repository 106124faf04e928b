"""Reports on TLS (RFC 8460): what makes them, who takes them, and what has to be in them by reports.py.

  send PORT STAGE               hands Barid the messages of the stage
  settled LOG STAGE             waits until the log tells what became of each, as the situations say
  collect WORLD POSTS           takes reports by HTTPS, each as POSTS/N.gz with its header in POSTS/N.json
  listed BARID CONFIG DAY STAGE
                                waits until `tlsrpt ls` tells what was counted of the day when the stage is over
  shown WORLD BARID CONFIG DAY STAGE OUT
                                keeps what `tlsrpt show` makes of each in OUT/DOMAIN.json, and checks it
  gather WORLD POSTS DAY STAGE OUT [unsigned]
                                waits for all reports of the day, and checks their form and signatures; writes each to
                                OUT as it came; where mail cannot be signed there are no more than those by HTTPS
  parse OUT                     what parsedmarc makes of them, in OUT/parsed.json
  judge WORLD DAY STAGE OUT SHOWN
                                checks what they count, by parsedmarc's word and our own, and that they are the same
                                as those in SHOWN, but for their id
  told STAGE LOG... [unsigned]  checks that the logs tell of each report once, or that it was not sent
  once WORLD POSTS DAY...       checks that there is no report twice, and none of other days: of the first day by
                                `later`, of the second by `again`

Days are those in the reports. Each prints how much was judged.
"""

import collections
import datetime
import email
import email.policy
import gzip
import http.server
import ipaddress
import json
import pathlib
import re
import smtplib
import ssl
import subprocess
import sys
import threading
from unittest import mock

import reports
from barid import SENDER, TRACE, differing, events, told as outcomes, wait_until
from reports import SUBMITTER

FROM, CONTACT, ORGANIZATION = f"tls-reports@{SUBMITTER}", f"postmaster@{SUBMITTER}", "Interop"
# from midnight on
DELAY_MAX = datetime.timedelta(hours=4)
MULTIPART, GZIPPED = "multipart/report", "application/tlsrpt+gzip"
TLSA = re.compile(r"[0-3] [01] [0-2] [0-9a-f]+", re.IGNORECASE)
SIGNED = {"from", "to", "subject", "date", "tls-report-domain", "tls-report-submitter"}
# members of a report's objects, and whether they must be there
REPORT = {"organization-name": True, "date-range": True, "contact-info": True, "report-id": True, "policies": True}
POLICY = {"policy-type": True, "policy-domain": True, "policy-string": False, "mx-host": False,
          # the text of RFC 8460 4.4 calls it so, its examples do not; parsedmarc heeds the text
          "mx-host-pattern": False}
FAILURE = {"result-type": True, "failed-session-count": True, "sending-mta-ip": False, "receiving-ip": False,
           "receiving-mx-hostname": False, "receiving-mx-helo": False, "additional-information": False,
           "failure-reason-code": False}
RESULTS = {"starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted",
           "validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error",
           "sts-policy-invalid", "sts-webpki-invalid"}


def check(what, holds):
    if not holds:
        sys.exit(what)


def same(what, got, wanted):
    """Counters or dictionaries are told by what differs."""
    if got != wanted:
        keys = sorted((key for key in {*got, *wanted} if got.get(key) != wanted.get(key)), key=str)
        sys.exit("\n".join(f"{what}: {key}: {got.get(key)}, not {wanted.get(key)}" for key in keys))
    print(len(wanted))


# ---- what makes them


def send(port, stage):
    with smtplib.SMTP("127.0.0.1", int(port)) as smtp:
        for group in together(reports.recipients(stage)):
            more = "TLS-Required: No\r\n" if group[0].startswith("indifferent@") else ""
            message = f"From: {SENDER}\r\nTo: {group[0]}\r\nSubject: reports\r\n{more}\r\nHello.\r\n"
            check(f"refused: {group}", not smtp.sendmail(SENDER, group, message))


def together(recipients):
    """Recipients of one message each."""
    paired = {wanted.situation.domain for wanted in reports.WANTED if wanted.recipients > 1}
    groups = collections.defaultdict(list)
    for to in recipients:
        domain = to.partition("@")[2]
        groups[domain if domain in paired else to].append(to)
    return groups.values()


def settled(log, stage):
    situations = reports.recipients(stage)
    wait_until(lambda: outcomes(log, situations).keys() >= situations.keys())
    wrong = differing(outcomes(log, situations), situations)
    check("\n".join(wrong), not wrong)
    print(len(situations))


# ---- who takes them


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        if "Content-Length" not in self.headers:
            return self.say(411)
        octets = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.count += 1
            path = self.server.directory / f"{self.server.count}"
        path.with_suffix(".gz").write_bytes(octets)
        header = {"path": self.path, "host": self.headers["Host"], "type": self.headers["Content-Type"]}
        # whole at once
        path.with_suffix(".new").write_text(json.dumps(header))
        path.with_suffix(".new").rename(path.with_suffix(".json"))
        return self.say(201)

    def say(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def collect(world, posts):
    world = pathlib.Path(world)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world / "first" / "certificates" / f"{reports.COLLECTOR}.pem")
    with http.server.ThreadingHTTPServer(((world / "collector.address").read_text(), 443), Collector) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.lock, server.count, server.directory = threading.Lock(), 0, pathlib.Path(posts)
        server.serve_forever()


# ---- what Barid says of them


def tlsrpt(barid, config, *words):
    done = subprocess.run([barid, "tlsrpt", *words, "--config", config], capture_output=True, text=True)
    check(f"tlsrpt {' '.join(words)}: {done.stderr}", done.returncode == 0)
    return done.stdout


def listed(barid, config, day, stage):
    def found():
        lines = [json.loads(line) for line in tlsrpt(barid, config, "ls", "--json").splitlines()]
        for line in lines:
            check_due(line)
        return {(line["day"], line["domain"]): (line["successful"], line["failed"]) for line in lines}

    wanted = {(day, domain): tuple(sum(policy[at] for policy in policies.values()) for at in (0, 1))
              for domain, policies in reports.expected(stage, {}).items()}
    wait_until(lambda: found() == wanted)
    same("listed", found(), wanted)


def check_due(line):
    end = datetime.datetime.fromisoformat(f"{line['day']}T00:00:00+00:00") + datetime.timedelta(days=1)
    due = datetime.datetime.fromisoformat(line["due"])
    check(f"{line['domain']} is due at {due}", end <= due <= end + DELAY_MAX)


def shown(world, barid, config, day, stage, out):
    wanted = reports.expected(stage, addresses(world))
    for domain in wanted:
        text = tlsrpt(barid, config, "show", domain, "--day", day)
        check_form(json.loads(text), domain, day)
        (pathlib.Path(out) / f"{domain}.json").write_text(text)
    got = {domain: counted(json.loads((pathlib.Path(out) / f"{domain}.json").read_text())) for domain in wanted}
    same("shown", got, wanted)


def told(stage, *logs):
    is_signed = logs[-1] != "unsigned"
    found = collections.Counter()
    for event in (event for log in logs if log != "unsigned" for event in events(log)):
        match event.get("event"):
            case "tls_report_queued" | "tls_report_posted" | "tls_report_not_sent" as what:
                to = event["to"].removeprefix("mailto:")
                check(f"{event}: has no id", what != "tls_report_queued" or event["id"])
                check(f"{event}: is no success", what != "tls_report_posted" or event["status"] == "201")
                found[what, event["domain"], to] += 1
    by_mail = "tls_report_queued" if is_signed else "tls_report_not_sent"
    wanted = collections.Counter(
        ("tls_report_posted" if uri.startswith("https:") else by_mail, domain, uri.removeprefix("mailto:"))
        for domain, uri in reports.due(stage))
    same("told", found, wanted)


# ---- what comes


Arrived = collections.namedtuple("Arrived", "domain uri octets report")


def arrived(world, posts):
    return [*mailed(pathlib.Path(world)), *posted(pathlib.Path(posts))]


def mailed(world):
    """Other mail of the world is none of ours."""
    for path in sorted((world / "mail" / "new").iterdir()):
        octets = re.sub(rb"\r?\n", b"\r\n", path.read_bytes())
        message = email.message_from_bytes(octets, policy=email.policy.default)
        if message.get_content_type() == MULTIPART and message["TLS-Report-Domain"]:
            report = json.loads(gzip.decompress(list(message.iter_parts())[1].get_content()))
            yield Arrived(message["TLS-Report-Domain"], f"mailto:{message['To']}", octets, report)


def posted(posts):
    for path in sorted(posts.glob("*.json")):
        octets, header = path.with_suffix(".gz").read_bytes(), json.loads(path.read_text())
        check(f"posted as {header['type']}", header["type"] == GZIPPED)
        uri = f"https://{header['host']}{header['path']}"
        yield Arrived(header["path"].rpartition("/")[2], uri, octets, json.loads(gzip.decompress(octets)))


def day_of(report):
    return report["date-range"]["start-datetime"][:10]


def gather(world, posts, day, stage, out, how="signed"):
    due = [(domain, uri) for domain, uri in reports.due(stage) if how == "signed" or uri.startswith("https:")]

    def found():
        return [one for one in arrived(world, posts) if day_of(one.report) == day]

    wait_until(lambda: len(found()) >= len(due))
    same("arrived", collections.Counter((one.domain, one.uri) for one in found()), collections.Counter(due))
    record = (pathlib.Path(world) / "dkim.record").read_text().strip()
    for number, one in enumerate(found()):
        is_mail = one.uri.startswith("mailto:")
        if is_mail:
            check_mail(one, day)
            check_signature(one, record, day)
        check_form(one.report, one.domain, day)
        base = pathlib.Path(out) / f"{number:03}"
        base.with_suffix(".eml" if is_mail else ".gz").write_bytes(one.octets)
        base.with_suffix(".json").write_text(json.dumps({"domain": one.domain, "report": one.report}))


def once(world, posts, *days):
    wanted = collections.Counter((day, *one) for day, stage in zip(days, ["later", "again"])
                                 for one in reports.due(stage))
    found = collections.Counter((day_of(one.report), one.domain, one.uri) for one in arrived(world, posts))
    same("arrived in the end", found, wanted)


# ---- whether they are as they must be


def check_mail(one, day):
    message = email.message_from_bytes(one.octets, policy=email.policy.default)
    of = f"the report on {one.domain} to {one.uri}"
    for part in message.walk():
        check(f"{of} has defects: {part.defects}", not part.defects)
    report_id = one.report["report-id"]
    for field, value in [("TLS-Report-Domain", one.domain), ("TLS-Report-Submitter", SUBMITTER),
                         ("TLS-Required", "No"), ("MIME-Version", "1.0")]:
        check(f"{of}: {field} is {message[field]}, not {value}", message.get_all(field) == [value])
    authors = [author.addr_spec for author in message["From"].addresses]
    check(f"{of}: its authors are {authors}", authors == [FROM])
    subject = re.sub(r"\s+", " ", message["Subject"])
    known = f"Report Domain: {one.domain} Submitter: {SUBMITTER} Report-ID: "
    is_right = subject.startswith(known) and re.fullmatch(r"<[^<>@]+@[^<>@]+>", subject.removeprefix(known))
    check(f"{of}: its subject is {subject}", is_right)
    check(f"{of}: its subject has another id than {report_id}", report_id.strip("<>") in subject)
    check(f"{of} has no date or id", message["Date"].datetime and message["Message-ID"])
    check_way(of, message)
    kind = message["Content-Type"].params.get("report-type")
    check(f"{of}: its type is {kind}", kind == "tlsrpt")
    text, data = message.iter_parts()
    kinds = text.get_content_type(), data.get_content_type()
    check(f"{of}: its parts are {kinds}", kinds == ("text/plain", GZIPPED))
    begin = int(datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
    name = rf"{re.escape(SUBMITTER)}!{re.escape(one.domain)}!{begin}!{begin + 86399}(?:![0-9A-Za-z]+)?\.json\.gz"
    check(f"{of}: its file is {data.get_filename()}", re.fullmatch(name, data.get_filename() or ""))
    check(f"{of}: its file is no attachment", data.get_content_disposition() == "attachment")


def check_way(of, message):
    """That nobody answers it, and who got it; Postfix and aiosmtpd say from whom it came, Exim does not."""
    senders = message.get_all("Return-Path", []) + message.get_all("X-MailFrom", [])
    check(f"{of} came from {senders}", {str(sender).strip() for sender in senders} <= {"<>", ""})
    to = TRACE.search(str(message.get_all("Received")[0])).group(3)
    check(f"{of} went to {to}", to == message["To"])


def check_signature(one, record, day):
    # Debian's Python has it
    import dkim
    name, text = record.split(" ", 1)
    fields = re.findall(rb"(?ims)^dkim-signature:.*?\r\n(?![ \t])", one.octets)
    of = f"the report on {one.domain} to {one.uri}"
    check(f"{of} has {len(fields)} signatures", len(fields) == 1)
    tags = dict(re.findall(r"(\w+)=([^;]*)", re.sub(r"\s", "", fields[0].decode().partition(":")[2])))
    check(f"{of} is signed by {tags['d']}", tags["d"] == SUBMITTER)
    check(f"{of}: the signature has l=", "l" not in tags)
    unsigned = SIGNED - {field.lower() for field in tags["h"].split(":")}
    check(f"{of}: not signed are {unsigned}", not unsigned)
    at = datetime.datetime.fromtimestamp(int(tags["t"]), datetime.UTC)
    check(f"{of} is signed at {at}", at.date() == datetime.date.fromisoformat(day) + datetime.timedelta(days=1))
    shown = {name: text.encode()}
    # our own clock is a day or two behind
    with mock.patch("dkim.time.time", at.timestamp):
        is_right = dkim.DKIM(one.octets, tlsrpt=True).verify(
            dnsfunc=lambda asked, timeout=5: shown.get(asked.decode().rstrip(".")))
    check(f"{of}: the signature does not verify", is_right)


def check_members(of, found, known):
    for member, is_needed in known.items():
        check(f"{of} has no {member}", member in found or not is_needed)
    check(f"{of} has {found.keys() - known.keys()}", found.keys() <= known.keys())


def check_count(of, value):
    check(f"{of} is {value!r}", isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def check_form(report, domain, day):
    """What RFC 8460 4.4 demands, and parsedmarc may not."""
    of = f"the report on {domain}"
    check_members(of, report, REPORT)
    for member, value in [("organization-name", ORGANIZATION), ("contact-info", CONTACT)]:
        check(f"{of}: {member} is {report[member]!r}", report[member] == value)
    check(f"{of}: report-id is {report['report-id']!r}", isinstance(report["report-id"], str) and report["report-id"])
    span = {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"}
    check(f"{of}: date-range is {report['date-range']}", report["date-range"] == span)
    check(f"{of} is empty", report["policies"])
    for policy in report["policies"]:
        check_policy(of, policy)


def check_policy(of, policy):
    what, summary, failures = policy["policy"], policy["summary"], policy.get("failure-details", [])
    check_members(of, policy, {"policy": True, "summary": True, "failure-details": False})
    check_members(of, what, POLICY)
    check_members(of, summary, {"total-successful-session-count": True, "total-failure-session-count": True})
    for member, value in summary.items():
        check_count(f"{of}: {member}", value)
    for failure in failures:
        check_failure(of, failure)
    total = summary["total-failure-session-count"]
    check(f"{of}: failures are not {total}", total == sum(failure["failed-session-count"] for failure in failures))
    results = {failure["result-type"] for failure in failures}
    strings, hosts = what.get("policy-string", []), what.get("mx-host", what.get("mx-host-pattern", []))
    for member, value in [("policy-string", strings), ("mx-host", hosts)]:
        is_list = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        check(f"{of}: {member} is {value!r}", is_list)
    check(f"{of}: the policy is {strings} {hosts}", is_told(what, strings, hosts, results))


def is_told(what, strings, hosts, results):
    match what["policy-type"]:
        case "tlsa" if "dnssec-invalid" not in results:
            return strings and all(TLSA.fullmatch(entry) for entry in strings) and not hosts
        case "sts" if not any(result.startswith("sts-") for result in results):
            return told_policy(what["policy-domain"]) == (strings, hosts)
        case "no-policy-found":
            return not strings and not hosts
    return what["policy-type"] in ("tlsa", "sts")


def told_policy(domain):
    """The policy of a domain; where it has changed, it counts only since."""
    situation = next(wanted.situation for wanted in reports.WANTED if wanted.situation.domain == domain)
    policy = situation.afterwards().policy
    hosts = [pattern.format(domain=domain) for pattern in policy.mx]
    mx = [f"mx: {host}" for host in hosts]
    return ["version: STSv1", f"mode: {policy.mode}", *mx, "max_age: 86400"], hosts


def check_failure(of, failure):
    check_members(of, failure, FAILURE)
    check(f"{of}: {failure['result-type']} is unknown", failure["result-type"] in RESULTS)
    check_count(f"{of}: failed-session-count", failure["failed-session-count"])
    for member in ("sending-mta-ip", "receiving-ip"):
        address = failure.get(member)
        check(f"{of}: {member} is {address}", address is None or str(ipaddress.ip_address(address)) == address)
    code = failure.get("failure-reason-code")
    # these two say nothing by themselves (RFC 8460 4.3)
    is_vague = failure["result-type"] in ("validation-failure", "certificate-not-trusted")
    check(f"{of}: there is no reason for a {failure['result-type']}", code or not is_vague)


# ---- what they count


def addresses(world):
    return {host["name"]: host["address"] for host in json.loads((pathlib.Path(world) / "hosts.json").read_text())}


def counted(report, as_parsed=False):
    """As reports.expected has it, from the JSON or from what parsedmarc made of it."""
    def member(of, name):
        return of.get(name.replace("-", "_") if as_parsed else name, "")

    found = {}
    for entry in report["policies"]:
        policy, summary = (entry, entry) if as_parsed else (entry["policy"], entry["summary"])
        prefix, failures = ("", "failed") if as_parsed else ("total-", "failure")
        key = member(policy, "policy-type"), member(policy, "policy-domain")
        check(f"the policy {key} is there twice", key not in found)
        details = [(member(failure, "result-type"), member(failure, "receiving-mx-hostname"),
                    member(failure, "receiving-ip"), member(failure, "failed-session-count"))
                   for failure in entry.get("failure_details" if as_parsed else "failure-details", [])]
        found[key] = (member(summary, f"{prefix}successful-session-count"),
                      member(summary, f"{prefix}{failures}-session-count"), tuple(sorted(details)))
    return found


def parse(out):
    # from PyPI
    import parsedmarc
    found = {}
    for path in sorted(pathlib.Path(out).iterdir()):
        if path.suffix in (".eml", ".gz"):
            parsed = parsedmarc.parse_report_file(path.read_bytes(), offline=True)
            check(f"{path.name} is taken for {parsed['report_type']}", parsed["report_type"] == "smtp_tls")
            found[path.stem] = parsed["report"]
    (pathlib.Path(out) / "parsed.json").write_text(json.dumps(found))
    print(len(found))


def judge(world, day, stage, out, shown_in):
    out, wanted = pathlib.Path(out), reports.expected(stage, addresses(world))
    for number, parsed in json.loads((out / "parsed.json").read_text()).items():
        own = json.loads((out / f"{number}.json").read_text())
        domain, report = own["domain"], own["report"]
        same(f"the report on {domain}", counted(report), wanted[domain])
        same(f"parsedmarc of that on {domain}", counted(parsed, as_parsed=True), wanted[domain])
        meta = [parsed[member] for member in ("organization_name", "contact_info", "begin_date", "end_date")]
        check(f"parsedmarc of that on {domain}: {meta}",
              meta == [ORGANIZATION, CONTACT, f"{day}T00:00:00Z", f"{day}T23:59:59Z"])
        before = json.loads((pathlib.Path(shown_in) / f"{domain}.json").read_text())
        before["report-id"] = report["report-id"]
        same(f"the report on {domain}, which was shown otherwise", report, before)


if __name__ == "__main__":
    {"send": send, "settled": settled, "collect": collect, "listed": listed, "shown": shown, "gather": gather,
     "parse": parse, "judge": judge, "told": told, "once": once}[sys.argv[1]](*sys.argv[2:])
