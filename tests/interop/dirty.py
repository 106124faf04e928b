"""Thirty-six messages that test what a relay makes of dirt; sent, and judged by what arrives.

  send PORT data|chunks REPLIES             sends each in a session of its own, by DATA or by BDAT, to its name
                                            at sink.test; writes the last reply to each to the file REPLIES
  judge DIR REPLIES data|chunks refuse|normalize
                                            compares what the recorder kept in DIR with what must be there

What must be there. A NUL refuses a message, with 5xx; so does a bare CR or LF, unless the client is one whose line
ends are normalized: there each becomes CRLF, and neither ends content nor lends a meaning to a dot behind it. Lines
of more than 998 octets may be refused. Everything else arrives octet for octet below Barid's trace field; where
content did not end with CRLF, that may be added.
"""

import json
import pathlib
import random
import re
import socket
import sys

HEAD = b"From: <sender@sender.test>\r\nTo: <%s@sink.test>\r\nSubject: dirty\r\nMessage-ID: <%s@sender.test>\r\n"
HEAD += b"Date: Thu, 1 Jan 2026 12:00:00 +0000\r\n"
# what a smuggler would like to be a message of its own
LOOT = b"MAIL FROM:<evil@sender.test>\r\nRCPT TO:<loot@sink.test>\r\nDATA\r\nSubject: loot\r\n\r\nloot\r\n.\r\n"
LINE_MAX_OCTETS = 998

BODIES = {
    # clean, though it may not look so
    "dot": b".\r\n",
    "dots-of-every-length": b"".join(b"." * length + b"\r\n" for length in range(1, 100)),
    "dot-and-text": b".x\r\n..x\r\n.\tx\r\n. \r\nx.\r\n",
    "dot-last": b"text\r\n\r\n.\r\n",
    "blank-lines": b"\r\n\r\n\r\ntext\r\n\r\n\r\n\r\n",
    "from-lines": b"From someone Thu Jan  1 12:00:00 2026\r\n>From here\r\nfrom there\r\n\r\nFrom \r\n",
    "smuggled-clean": b"text\r\n.\r\n" + LOOT,
    "utf8": "Grüße, 東京, Москва \U0001f40e\r\n".encode(),
    "octets-above-127": bytes(range(128, 256)) + b"\r\n",
    "control-characters": bytes(code for code in range(1, 32) if code not in b"\r\n") + b"\x7f\r\n",
    "line-998": b"x" * 998 + b"\r\n",
    "line-998-dot": b"." + b"x" * 997 + b"\r\n",
    "many-dots": b".\r\n..\r\n.x\r\n" * 30000,
    # dots and CRLFs at every distance from the ends of blocks, and so is the CRLF of each line
    "moving-dots": b"".join(b"." + b"x" * (length % 61) + b"\r\n" for length in range(9000)),
    "no-body": None,
    "no-line-end": b"text",
    "no-line-end-dot": b"text\r\n.",
    # too long to be mail
    "line-999": b"x" * 999 + b"\r\n",
    "line-1000": b"x" * 1000 + b"\r\n",
    "line-200000": b"x" * 200000 + b"\r\n",
    # bare line ends
    "lf": b"one\ntwo\r\n",
    "cr": b"one\rtwo\r\n",
    "lf-everywhere": b"one\ntwo\n.three\n\n.\nfour\n",
    "cr-everywhere": b"one\rtwo\r.three\r\r.\rfour\r",
    "lf-cr": b"one\n\rtwo\r\n",
    "cr-crlf": b"one\r\r\ntwo\r\n",
    "lf-in-header": b"X-Header: one\nX-Other: two\r\n\r\ntext\r\n",
    "smuggled-lf-lf": b"text\n.\n" + LOOT,
    "smuggled-lf-crlf": b"text\n.\r\n" + LOOT,
    "smuggled-crlf-lf": b"text\r\n.\n" + LOOT,
    "smuggled-cr-cr": b"text\r.\r" + LOOT,
    "smuggled-crlf-cr": b"text\r\n.\r" + LOOT,
    "smuggled-cr-lf-dot": b"text\r\r\n.\r\r\n" + LOOT,
    # NULs
    "nul": b"one\0two\r\n",
    "smuggled-nul": b"text\r\n\0.\r\n.\0\r\n" + LOOT,
    "nul-in-header": b"X-Header: one\0two\r\n\r\ntext\r\n",
}
assert len(BODIES) == 36


def check(what, holds):
    if not holds:
        sys.exit(what)


def content(name):
    body = BODIES[name]
    head = HEAD % (name.encode(), name.encode())
    if body is None:
        return head
    return head + (body if "in-header" in name else b"\r\n" + body)


def with_line_end(octets):
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def sent_data(name):
    """What is written behind DATA, and what that means where only CRLF.CRLF is the end."""
    octets = content(name)
    if name.startswith("smuggled-") and name != "smuggled-clean":
        # a smuggler stuffs no dots, and ends with those of the loot
        return octets, re.sub(rb"\r\n\.", rb"\r\n", octets.removesuffix(b".\r\n"))
    octets = with_line_end(octets)
    return re.sub(rb"\r\n\.", rb"\r\n..", octets) + b".\r\n", octets


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.socket.makefile("rb")

    def reply(self):
        while (line := self.replies.readline())[3:4] == b"-":
            pass
        return line.decode().strip()

    def ask(self, octets):
        self.socket.sendall(octets)
        return self.reply()

    def asks(self, octets, wanted):
        reply = self.ask(octets)
        check(f"{octets[:40]!r} was answered with {reply!r}", reply.startswith(wanted))


def pieces(octets, seed):
    """Small ones at first, so that every CRLF and dot is torn somewhere; large ones if there is more."""
    sizes = random.Random(seed)
    at = 0
    while at < len(octets):
        size = sizes.randint(1, 9) if at < 600 else sizes.randint(1, 20000)
        yield octets[at : at + size]
        at += size


def send_data(client, name):
    client.asks(b"DATA\r\n", "354")
    for piece in pieces(sent_data(name)[0], name):
        client.socket.sendall(piece)
    return client.reply()


def send_chunks(client, name):
    """Stops at the first chunk that is refused."""
    chunks = list(pieces(content(name), name))
    # the last may be empty
    chunks += [b""] if len(name) % 2 else []
    for number, chunk in enumerate(chunks, 1):
        last = b" LAST" if number == len(chunks) else b""
        reply = client.ask(b"BDAT %d%s\r\n%s" % (len(chunk), last, chunk))
        if not reply.startswith("250"):
            break
    return reply


def send(port, how, path):
    replies = {}
    for name in BODIES:
        client = Client(int(port))
        check("no greeting", client.reply().startswith("220"))
        client.asks(b"EHLO client.sender.test\r\n", "250")
        client.asks(b"MAIL FROM:<sender@sender.test> BODY=8BITMIME\r\n", "250")
        client.asks(b"RCPT TO:<%s@sink.test>\r\n" % name.encode(), "250")
        replies[name] = {"data": send_data, "chunks": send_chunks}[how](client, name)
        # what was refused has hurt neither the session nor the message that may follow
        client.asks(b"RSET\r\n", "250")
        client.asks(b"QUIT\r\n", "221")
    pathlib.Path(path).write_text(json.dumps(replies, indent=1))
    print(sum(reply.startswith("250") for reply in replies.values()))


def is_dirty(octets):
    return re.search(rb"(?<!\r)\n|\r(?!\n)|\0", octets) is not None


def wanted(sent, normalizes):
    """What must arrive, or None; and whether it may be refused."""
    if normalizes:
        sent = re.sub(rb"\r\n|\r|\n", b"\r\n", sent)
    if is_dirty(sent):
        return None, True
    return sent, any(len(line) > LINE_MAX_OCTETS for line in sent.split(b"\r\n"))


def plain_content(path):
    """Content as the recorder kept it, without dot-stuffing."""
    octets = path.read_bytes()
    check(f"{path.name} has a bare CR or LF, or a NUL", not is_dirty(octets))
    if path.suffix == ".chunks":
        return octets
    *lines, dot, end = octets.split(b"\r\n")
    check(f"{path.name} is not ended by a dot", (dot, end) == (b".", b""))
    for line in lines:
        check(f"{path.name} has an unstuffed dot: {line[:60]!r}", not line.startswith(b".") or line.startswith(b".."))
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines)


TRACE = re.compile(rb"Received: from [^\r\n]+\r\n(?:[ \t][^\r\n]+\r\n)+")


def judge_one(name, reply, files, how, normalizes):
    sent = sent_data(name)[1] if how == "data" else content(name)
    must_arrive, may_be_refused = wanted(sent, normalizes)
    if reply.startswith("5"):
        check(f"{name} was refused: {reply}", may_be_refused)
        check(f"{name} was refused, and yet arrived", not files)
        return
    check(f"{name} was answered with {reply}", reply.startswith("250"))
    check(f"{name} was taken", must_arrive is not None)
    check(f"{name} arrived {len(files)} times", len(files) == 1)
    arrived = plain_content(files[0])
    trace = TRACE.match(arrived)
    check(f"{name} has no trace field", trace)
    arrived = arrived[trace.end() :]
    check(f"{name} has changed: {arrived[-80:]!r}", arrived in (must_arrive, with_line_end(must_arrive)))


def judge(directory, path, how, mode):
    replies = json.loads(pathlib.Path(path).read_text())
    check("not all were sent", replies.keys() == BODIES.keys())
    files = {}
    for file in sorted(pathlib.Path(directory).iterdir()):
        files.setdefault(file.name.split(".")[0], []).append(file)
    check(f"nobody sent {files.keys() - replies.keys()}", files.keys() <= replies.keys())
    for name, reply in replies.items():
        judge_one(name, reply, files.get(name, []), how, mode == "normalize")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
