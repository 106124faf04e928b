"""Messages made, sent, compared and taken apart with Python's own mail library.

  make KIND FILE                    writes a message: plain, eight-bit, dots or large
  send PORT SENDER FILE TO...       hands it over, octet for octet
  send_tls PORT SENDER FILE TO...   likewise, over STARTTLS
  whole DIR                         prints yes if all of smtp-sink's dumps have their ends
  same COPY FILE                    checks that COPY is the message, but for trace fields
  protocol COPY                     prints how Barid says that it got the message
  ids DIR                           prints how many different ids Barid gave its messages
  report COPY FILE TO STATUS        checks that COPY is a failure report on FILE to TO
"""

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
    rb"^Received: from \S+ \(\[127\.0\.0\.\d+\]\)\n\tby barid\.interop\.test with (?P<protocol>(?:E|UTF8)?SMTPS?)"
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
    head = (
        f"Date: {email.utils.formatdate()}\r\nFrom: <sender@sender.test>\r\nTo: <someone@sink.test>\r\n"
        f"Subject: interop {kind}\r\nMessage-ID: {email.utils.make_msgid(domain='sender.test')}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    pathlib.Path(path).write_bytes(head.encode() + bodies[kind])


def send(port, sender, path, *to, tls=None):
    message = pathlib.Path(path).read_bytes()
    options = [f"SIZE={len(message)}"] + ([] if message.isascii() else ["BODY=8BITMIME"])
    with smtplib.SMTP("127.0.0.1", int(port), timeout=30) as smtp:
        smtp.ehlo("client.sender.test")
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


def ids(directory):
    stamps = [RECEIVED.search(path.read_bytes()) for path in pathlib.Path(directory).iterdir()]
    print(len({found["id"] for found in stamps if found}))


def report(copy, path, recipient, status):
    octets = pathlib.Path(copy).read_bytes()
    if octets.startswith(b"X-Client-Addr:"):
        octets = octets.split(b"\n", 1)[1]
        while re.match(rb"X-(Helo|Mail|Rcpt)", octets):
            octets = octets.split(b"\n", 1)[1]
    original = email.message_from_bytes(pathlib.Path(path).read_bytes(), policy=email.policy.default)
    message = email.message_from_bytes(octets, policy=email.policy.default)
    for part in message.walk():
        check(f"{part.get_content_type()} has defects: {part.defects}", not part.defects)
    kind = (message.get_content_type(), message["Content-Type"].params.get("report-type"))
    check(f"the report is {kind}", kind == ("multipart/report", "delivery-status"))
    check("the report may be answered by a machine", message["Auto-Submitted"] == "auto-replied")
    check("the report has no date", message["Date"].datetime is not None)
    check("the report has no id", message["Message-ID"])
    text, delivery, header = message.iter_parts()
    check("the explanation does not name the recipient", f"<{recipient}>" in text.get_content())
    check("no delivery status", delivery.get_content_type() == "message/delivery-status")
    about_message, *about_recipients = delivery.get_payload()
    check("no Reporting-MTA", about_message["Reporting-MTA"] == "dns; barid.interop.test")
    check(f"{len(about_recipients)} recipients in the report", len(about_recipients) == 1)
    for field, value in [("Final-Recipient", f"rfc822; {recipient}"), ("Action", "failed"), ("Status", status)]:
        got = about_recipients[0][field]
        check(f"{field} is {got!r}, not {value!r}", got == value)
    check("the original's header is missing", header.get_content_type() == "text/rfc822-headers")
    check("the original's id is missing", original["Message-ID"] in header.get_content())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
