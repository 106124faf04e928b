"""Messages made, sent, compared and taken apart with Python's own mail library.

  make KIND FILE                    writes a message: plain, eight-bit, dots, large or utf8, whose header is UTF-8
  send PORT SENDER FILE TO...       hands it over, octet for octet
  send_tls PORT SENDER FILE TO...   likewise, over STARTTLS
  send_utf8 PORT SENDER FILE TO...  hands it over by smtplib's send_message, which says SMTPUTF8 if it must
  send_dsn PORT SENDER OPTIONS FILE TO OPTIONS...
                                    hands it over with these words behind MAIL and each RCPT
  extensions PORT                   prints what EHLO offers, a line each
  whole DIR                         prints yes if all of smtp-sink's dumps have their ends
  same COPY FILE                    checks that COPY is the message, but for trace fields
  protocol COPY                     prints how Barid says that it got the message
  received COPY                     prints the topmost trace field in one line
  ids DIR                           prints how many different ids Barid gave its messages
  report COPY FILE TO STATUS [ACTION [FULL]]
                                    checks that COPY reports that FILE to TO was failed, or ACTION; and gives back
                                    its header, or all of it if there is FULL
  reported COPY FIELD               prints the values of a field of the report, in one line
"""

import contextlib
import email
import email.policy
import email.utils
import pathlib
import re
import smtplib
import ssl
import sys

# what smtp-sink, Postfix and postgrey put on top of a message
TRACE = re.compile(
    rb"(?:(?:X-(?:Client|Helo|Mail|Rcpt|Original|Greylist)[^:\n]*|Received|Return-[Pp]ath|Delivered-To):[^\n]*\n(?:[ \t][^\n]*\n)*)*"
)
RECEIVED = re.compile(
    rb"^Received: from \S+ \(\[127\.0\.0\.\d+\]\)(?:\n\t\(using TLSv1\.[23] with cipher \w+\))?\n\tby barid\.interop\.test with (?P<protocol>(?:E|UTF8)?SMTPS?)"
    rb" id (?P<id>[0-9a-f]{16})(?:\n\tfor <[^>\n]+>)?;\n\t(?P<date>[^\n]+)\n",
    re.MULTILINE,
)


def check(what, holds):
    if not holds:
        sys.exit(what)


def make(kind, path):
    bodies = {
        "plain": "Hello.\r\n\r\nGoodbye.\r\n".encode(),
        "eight-bit": "Grüße aus Köln, 東京 и Москва.\r\n".encode() + bytes(range(0xA0, 0x100)) + b"\r\n",
        # every way in which a dot can stand at the start of a line
        "dots": b".\r\n..\r\n...\r\n.x\r\nx.\r\n\r\n.\r\n\r\n. \r\n.\r\n",
        # 2 MiB: Barid keeps it in a file of its own
        "large": b"".join(b"%08d %s\r\n" % (number, b".ab"[number % 3:] * 30) for number in range(28000)),
    }
    bodies["utf8"] = bodies["eight-bit"].splitlines(True)[0]
    to = "δοκιμή@pf.test" if kind == "utf8" else "someone@sink.test"
    head = (
        f"Date: {email.utils.formatdate()}\r\nFrom: <sender@sender.test>\r\nTo: <{to}>\r\n"
        f"Subject: interop {kind}\r\nMessage-ID: {email.utils.make_msgid(domain='sender.test')}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    pathlib.Path(path).write_bytes(head.encode() + bodies[kind])


@contextlib.contextmanager
def session(port):
    with smtplib.SMTP("127.0.0.1", int(port), timeout=30) as smtp:
        smtp.ehlo("client.sender.test")
        yield smtp


def send(port, sender, path, *to, tls=None):
    message = pathlib.Path(path).read_bytes()
    options = [f"SIZE={len(message)}"] + ([] if message.isascii() else ["BODY=8BITMIME"])
    with session(port) as smtp:
        if tls:
            smtp.starttls(context=tls)
            smtp.ehlo("client.sender.test")
        refused = smtp.sendmail(sender, to, message, mail_options=options)
    check(f"refused: {refused}", not refused)


def send_tls(*arguments):
    context = ssl.create_default_context()
    # Barid has signed its certificate by itself
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    send(*arguments, tls=context)


def send_utf8(port, sender, path, *to):
    message = email.message_from_bytes(pathlib.Path(path).read_bytes(), policy=email.policy.SMTPUTF8)
    with session(port) as smtp:
        refused = smtp.send_message(message, sender, to)
    check(f"refused: {refused}", not refused)


def send_dsn(port, sender, options, path, *recipients):
    with session(port) as smtp:
        check("no DSN in EHLO", smtp.has_extn("dsn"))
        replies = [smtp.mail(sender, options.split())]
        replies += [smtp.rcpt(to, words.split()) for to, words in zip(recipients[::2], recipients[1::2])]
        replies += [smtp.data(pathlib.Path(path).read_bytes())]
    check(f"refused: {replies}", all(code == 250 for code, _ in replies))


def extensions(port):
    with session(port) as smtp:
        print(smtp.ehlo_resp.decode())


def whole(directory):
    files = pathlib.Path(directory).iterdir()
    print("yes" if all(path.read_bytes().endswith(b"\n\n") for path in files) else "no")


def without_trace(copy):
    """The message below the trace fields."""
    email.utils.parsedate_to_datetime(stamp(copy)["date"].decode())
    return copy[TRACE.match(copy).end() :]


def stamp(copy):
    """The trace field that Barid added."""
    stamps = list(RECEIVED.finditer(copy[: TRACE.match(copy).end()]))
    check(f"{len(stamps)} trace fields of Barid, not one", len(stamps) == 1)
    return stamps[0]


def same(copy, path):
    got = pathlib.Path(copy).read_bytes()
    # files have lines of the machine; and smtp-sink ends its dumps with a line more
    wanted = pathlib.Path(path).read_bytes().replace(b"\r\n", b"\n")
    wanted += b"\n" if got.startswith(b"X-Client-Addr:") else b""
    got = without_trace(got)
    for number, (line, right) in enumerate(zip(got.splitlines(), wanted.splitlines()), 1):
        check(f"line {number} is {line[:80]!r}, not {right[:80]!r}", line == right)
    check(f"{len(got)} octets, not {len(wanted)}", got == wanted)


def protocol(copy):
    print(stamp(pathlib.Path(copy).read_bytes())["protocol"].decode())


def received(copy, by="."):
    """The first trace field, or the first by a host."""
    octets = pathlib.Path(copy).read_bytes()
    fields = re.findall(rb"^Received: .*\n(?:[ \t].*\n)*", octets, re.MULTILINE)
    chosen = [field for field in fields if re.search(rb"\sby " + by.encode(), field)]
    print(re.sub(rb"\s+", b" ", chosen[0]).decode())


def ids(directory):
    stamps = [RECEIVED.search(path.read_bytes()) for path in pathlib.Path(directory).iterdir()]
    print(len({found["id"] for found in stamps if found}))


def parts(copy):
    """A report, and its three parts: text, status and what is given back."""
    octets = pathlib.Path(copy).read_bytes()
    if octets.startswith(b"X-Client-Addr:"):
        # what smtp-sink puts on top; a report has no such fields of its own
        octets = re.sub(rb"\A(?:X-[^\n]*\n)*", b"", octets)
    # what is beyond ASCII has the form of RFC 6533, whose fields Python reads only under the older name
    octets = octets.replace(b"message/global-delivery-status", b"message/delivery-status")
    message = email.message_from_bytes(octets, policy=email.policy.default)
    for part in message.walk():
        check(f"{part.get_content_type()} has defects: {part.defects}", not part.defects)
    kind = (message.get_content_type(), message["Content-Type"].params.get("report-type"))
    check(f"the report is {kind}", kind == ("multipart/report", "delivery-status"))
    text, delivery, returned = message.iter_parts()
    check("no delivery status", delivery.get_content_type() == "message/delivery-status")
    return message, text, delivery, returned


def report(copy, path, recipient, status, action="failed", full=None):
    original = email.message_from_bytes(pathlib.Path(path).read_bytes(), policy=email.policy.default)
    message, text, delivery, returned = parts(copy)
    check("the report may be answered by a machine", message["Auto-Submitted"] == "auto-replied")
    check("the report has no date", message["Date"].datetime is not None)
    check("the report has no id", message["Message-ID"])
    check("the explanation does not name the recipient", f"<{recipient}>" in text.get_content())
    about_message, *about_recipients = delivery.get_payload()
    check("no Reporting-MTA", about_message["Reporting-MTA"] == "dns; barid.interop.test")
    check(f"{len(about_recipients)} recipients in the report", len(about_recipients) == 1)
    for field, value in [("Final-Recipient", f"rfc822; {recipient}"), ("Action", action), ("Status", status)]:
        got = about_recipients[0][field]
        check(f"{field} is {got!r}, not {value!r}", got == value)
    if full:
        check("the original is missing", returned.get_content_type() == "message/rfc822")
        inner = returned.get_content()
        check("the original's id is missing", inner["Message-ID"] == original["Message-ID"])
        check("the original's text has changed", unix(inner.get_content()) == unix(original.get_content()))
    else:
        check("the original's header is missing", returned.get_content_type() == "text/rfc822-headers")
        check("the original's id is missing", original["Message-ID"] in returned.get_content())
        check("the original's text is given back", not returned.get_content().rstrip("\n").count("\n\n"))


def unix(text):
    return text.replace("\r\n", "\n")


def reported(copy, field):
    print(" ".join(block[field] for block in parts(copy)[2].get_payload() if block[field]))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
