"""python3 recorder.py ADDRESS:PORT DIR [chunking]: takes mail, and keeps content as the octets it came in.

Judges nothing. A message for NAME@... is written to DIR/NAME.N.data, from behind the 354 up to and with the
final dot, or to DIR/NAME.N.chunks, the octets of all its chunks; N counts from 1. What others would end
content with does not end it here: only CRLF.CRLF does.
"""

import collections
import pathlib
import socketserver
import sys

END = b"\r\n.\r\n"
BLOCK_OCTETS = 64 << 10


class Session(socketserver.BaseRequestHandler):
    def handle(self):
        self.received = b""
        self.reset()
        self.say(b"220 recorder.interop.test ESMTP")
        while line := self.line():
            command = line[:4].upper()
            if command == b"QUIT":
                return self.say(b"221 2.0.0 bye")
            self.commands.get(command, Session.unknown)(self, line)

    def ehlo(self, line):
        self.reset()
        offers = [b"recorder.interop.test", b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"SIZE"]
        offers += [b"CHUNKING"] if self.server.offers_chunking else []
        self.say(b"\r\n".join([b"250-" + offer for offer in offers] + [b"250 ENHANCEDSTATUSCODES"]))

    def mail(self, line):
        self.reset()
        self.say(b"250 2.1.0 ok")

    def rcpt(self, line):
        self.name = line.split(b"<")[1].split(b"@")[0].decode()
        self.say(b"250 2.1.5 ok")

    def data(self, line):
        self.say(b"354 go ahead")
        # a message may be nothing but its final dot
        while not (self.received.startswith(END[2:]) or END in self.received):
            self.read()
        end = 3 if self.received.startswith(END[2:]) else self.received.index(END) + len(END)
        content, self.received = self.received[:end], self.received[end:]
        self.keep("data", content)

    def bdat(self, line):
        words = line.split()
        size = int(words[1])
        while len(self.received) < size:
            self.read()
        self.chunks += self.received[:size]
        self.received = self.received[size:]
        if len(words) > 2:
            self.keep("chunks", self.chunks)
        else:
            self.say(b"250 2.0.0 more")

    def simple(self, line):
        self.reset()
        self.say(b"250 2.0.0 ok")

    def unknown(self, line):
        self.say(b"500 5.5.1 what?")

    commands = {
        b"EHLO": ehlo, b"MAIL": mail, b"RCPT": rcpt, b"DATA": data, b"BDAT": bdat, b"RSET": simple, b"NOOP": simple,
    }

    def keep(self, kind, content):
        self.server.count[self.name] += 1
        path = self.server.directory / f"{self.name}.{self.server.count[self.name]}.{kind}"
        path.write_bytes(content)
        self.reset()
        self.say(b"250 2.0.0 kept")

    def reset(self):
        self.name, self.chunks = "nobody", b""

    def line(self):
        """Commands end with CRLF alone, too; nothing at the end of the connection."""
        while b"\r\n" not in self.received:
            if not self.read(at_end=False):
                return b""
        line, self.received = self.received.split(b"\r\n", 1)
        return line + b"\r\n"

    def read(self, at_end=True):
        octets = self.request.recv(BLOCK_OCTETS)
        if at_end and not octets:
            raise ConnectionError("the connection ended within content")
        self.received += octets
        return octets

    def say(self, reply):
        self.request.sendall(reply + b"\r\n")


class Recorder(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    host, port = sys.argv[1].rsplit(":", 1)
    with Recorder((host, int(port)), Session) as recorder:
        recorder.directory = pathlib.Path(sys.argv[2])
        recorder.offers_chunking = "chunking" in sys.argv[3:]
        recorder.count = collections.Counter()
        recorder.serve_forever()
