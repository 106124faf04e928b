"""Messages to be signed, and what dkimpy and OpenDKIM find of the signatures.

  samples OUT [DIR...]      writes messages of every kind as they go over the wire: some of our own, and those below
                            the DIRs; prints how many
  send PORT TO DIR          hands each of them over
  received KIND DIR OUT     writes what arrived, octet for octet: from a recorder's `data`, or a `maildir`; prints
                            how many
  authored DIR              prints how many of the messages name an author with a domain
  dkimpy RECORDS DIR        each message has two signatures, which verify; no mutation of it does
"""

import itertools
import pathlib
import re
import smtplib
import sys

import dkim

SENDER = "sender@sender.test"
SIGNATURES = 2
# what a mutation may not get past: one octet of the body, a field that is signed, one that was not there
MUTATIONS = [
    lambda head, body: (head, body + b"more\r\n"),
    lambda head, body: (re.sub(rb"(?im)^(from:[ \t]*)", rb"\1Eve ", head, count=1), body),
    lambda head, body: (b"Subject: another\r\n" + head, body),
    lambda head, body: (b"Cc: eve@example.com\r\n" + head, body),
]


def check(what, holds):
    if not holds:
        sys.exit(what)


def own():
    head = "From: Ann <ann@author.test>\r\nTo: bob@sink.test\r\nSubject: interop\r\n"
    for number, (more, body) in enumerate(
        [
            ("", "Hello.\r\n"),
            ("", ""),
            ("", "\r\n\r\n\r\n"),
            ("", "  white \t space  \r\nand\ttabs \r\n \r\n\r\n"),
            ("X-Folded: a\r\n\tb\r\n  c\r\nReply-To:   spaced@author.test  \r\n", ".dots\r\n..\r\n"),
            ("List-Unsubscribe: <https://author.test/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "x\r\n"),
            ("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", "Grüße\r\n"),
            ("", "a large one\r\n" * 200_000),
        ]
    ):
        yield f"own{number}", f"{head}{more}\r\n{body}".encode()
    yield "no-end", head.encode()


def theirs(directory):
    for path in sorted(pathlib.Path(directory).rglob("*")):
        if path.suffix not in (".eml", ".txt") or path.name.startswith(("LICENSE", "README")):
            continue
        octets = re.sub(rb"\r\n|\r|\n", b"\r\n", path.read_bytes())
        # NULs are refused
        if b"\0" not in octets and is_readable(octets):
            yield path.stem, octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def is_readable(octets):
    """Whether dkimpy takes it for a message at all."""
    try:
        dkim.rfc822_parse(octets)
    except dkim.MessageFormatError:
        return False
    return b":" in octets.split(b"\r\n")[0]


def samples(out, *directories):
    all_of_them = itertools.chain(own(), *map(theirs, directories))
    for number, (name, octets) in enumerate(all_of_them, 1):
        (pathlib.Path(out) / f"{number:04}-{name}").write_bytes(octets)
    print(number)


def send(port, to, directory):
    with smtplib.SMTP("127.0.0.1", int(port), timeout=60) as smtp:
        smtp.ehlo("client.sender.test")
        for path in sorted(pathlib.Path(directory).iterdir()):
            octets = path.read_bytes()
            options = [] if octets.isascii() else ["BODY=8BITMIME"]
            smtp.sendmail(SENDER, [to], octets, mail_options=options)


def received(kind, directory, out):
    number = 0
    pattern = {"data": "*.data", "maildir": "new/*"}[kind]
    for number, path in enumerate(sorted(pathlib.Path(directory).glob(pattern)), 1):
        octets = path.read_bytes()
        if kind == "data":
            # without the final dot, and those that were put before others
            octets = re.sub(rb"(\A|\r\n)\.", rb"\1", octets.removesuffix(b".\r\n"))
        else:
            octets = octets.replace(b"\n", b"\r\n")
        (pathlib.Path(out) / f"{number:04}").write_bytes(octets)
    print(number)


def authored(directory):
    heads = (path.read_bytes().split(b"\r\n\r\n")[0] for path in pathlib.Path(directory).iterdir())
    unfolded = (re.sub(rb"\r\n[ \t]", b" ", head) for head in heads)
    print(sum(1 for head in unfolded if re.search(rb"(?im)^from[ \t]*:.*@", head)))


def dkimpy(records, directory):
    lines = pathlib.Path(records).read_text().splitlines()
    shown = dict(line.split(" ", 1) for line in lines)

    def look_up(name, timeout=5):
        return shown[name.decode().rstrip(".")].encode()

    def verifies(octets, number):
        try:
            return dkim.DKIM(octets).verify(idx=number, dnsfunc=look_up)
        except (dkim.DKIMException, KeyError) as error:
            return False if number is None else f"{error!r}"

    count = 0
    for path in sorted(pathlib.Path(directory).iterdir()):
        octets = path.read_bytes()
        found = len(re.findall(rb"(?im)^dkim-signature:.*\n\td=interop\.test;", octets))
        check(f"{path.name} has {found} signatures", found == SIGNATURES)
        for number in range(SIGNATURES):
            verdict = verifies(octets, number)
            check(f"{path.name}: signature {number}: {verdict}", verdict is True)
        head, _, body = octets.partition(b"\r\n\r\n")
        for number, mutate in enumerate(MUTATIONS):
            new_head, new_body = mutate(head + b"\r\n", body)
            if (new_head, new_body) == (head + b"\r\n", body):
                continue
            mutated = new_head + b"\r\n" + new_body
            # the signatures stand first: what is put before them is put into the header all the same
            for index in range(SIGNATURES):
                verdict = verifies(mutated, index)
                check(f"{path.name}: mutation {number} verifies by signature {index}", verdict is not True)
        count += 1
    print(count)


if __name__ == "__main__":
    commands = {"samples": samples, "send": send, "received": received, "authored": authored, "dkimpy": dkimpy}
    commands[sys.argv[1]](*sys.argv[2:])
