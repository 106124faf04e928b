"""SMTP by hand: clients that hold connections, and ones that look at each reply."""

import selectors
import socket
import time

from stage import RELAY, Broken

REPLY_SECONDS = 10
MESSAGE = b"From: <hand@sender.test>\r\nSubject: by hand\r\n\r\nby hand\r\n"
LINE = b"x" * 70 + b"\r\n"


class Client:
    """One connection, whose replies are read line by line."""

    def __init__(self, peer, seconds=REPLY_SECONDS):
        self.socket, self.buffer = peer, b""
        peer.settimeout(seconds)

    def reply(self):
        """The next reply's last line; empty where the connection has ended."""
        while True:
            line, found, rest = self.buffer.partition(b"\n")
            if found:
                self.buffer = rest
                if line[3:4] != b"-":
                    return line.decode().rstrip()
                continue
            try:
                octets = self.socket.recv(4096)
            except TimeoutError as error:
                raise Broken("the relay does not reply") from error
            except OSError:
                return ""
            if not octets:
                return ""
            self.buffer += octets

    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def submit(self, size=0, recipient="by-hand@d1.load.test"):
        """One message; gives the first reply that refuses it, or the last one."""
        for line in ("MAIL FROM:<hand@sender.test>", f"RCPT TO:<{recipient}>", "DATA"):
            reply = self.say(line)
            if reply[:1] not in ("2", "3"):
                return reply
        self.socket.sendall(MESSAGE + LINE * (size // len(LINE)) + b".\r\n")
        return self.reply()

    def close(self):
        self.socket.close()


def greeted(source="127.0.0.1", seconds=REPLY_SECONDS):
    """A connection that has said EHLO, and the greeting or whatever came in its place."""
    client = Client(socket.create_connection(RELAY, timeout=seconds, source_address=(source, 0)), seconds)
    greeting = client.reply()
    if greeting.startswith("220"):
        client.say("EHLO hand.test")
    return client, greeting


def open_crowd(sources, each, seconds):
    """Opens many connections at once; gives what each was told first: (client socket, line), within so many
    seconds. A line is empty where nothing was said in time, or the connection was closed without a word."""
    selector, crowd = selectors.DefaultSelector(), {}
    for source in sources:
        for _ in range(each):
            peer = socket.socket()
            peer.setblocking(False)
            peer.bind((source, 0))
            peer.connect_ex(RELAY)
            selector.register(peer, selectors.EVENT_READ)
            crowd[peer] = b""
    waiting, end = len(crowd), time.monotonic() + seconds
    while waiting and time.monotonic() < end:
        for key, _ in selector.select(timeout=0.1):
            try:
                octets = key.fileobj.recv(4096)
            except OSError:
                octets = b""
            crowd[key.fileobj] += octets
            if not octets or b"\n" in octets:
                selector.unregister(key.fileobj)
                waiting -= 1
    selector.close()
    return [(peer, line.decode().strip()) for peer, line in crowd.items()]
