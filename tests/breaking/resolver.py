"""A DNS server that can be spoiled: it asks another one, or does not."""

import socket
import threading

HEADER_OCTETS = 12
IS_ANSWER, RCODE = 0x80, 0x0F
RCODES = {"servfail": 2, "nxdomain": 3}


class Resolver(threading.Thread):
    """Answers on one address by asking at another, by UDP, in the mood it is in:

    good      what the other one says
    drop      nothing
    servfail  that it failed, whatever is asked
    nxdomain  that there is no such name, whatever is asked, the root included
    """

    def __init__(self, at, behind):
        super().__init__(daemon=True)
        self.mood, self.asked, self.over = "good", 0, False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(at)
        self.socket.settimeout(0.1)
        self.behind = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.behind.connect(behind)
        self.behind.settimeout(1)

    def run(self):
        while not self.over:
            try:
                query, peer = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.asked += 1
            answer = self.answer(query)
            if answer:
                self.socket.sendto(answer, peer)

    def stop(self):
        """Gives the address free."""
        self.over = True
        self.join()
        self.socket.close()

    def answer(self, query):
        if self.mood == "drop" or len(query) < HEADER_OCTETS:
            return None
        if self.mood in RCODES:
            # the question as it came, with the one octet that answers it, and nothing behind it
            head = bytearray(query[:HEADER_OCTETS])
            head[2] |= IS_ANSWER
            head[3] = head[3] & ~RCODE | RCODES[self.mood]
            head[6:12] = bytes(6)
            return bytes(head) + question(query)
        try:
            self.behind.send(query)
            while True:
                answer = self.behind.recv(4096)
                # one to an earlier question may have come late
                if answer[:2] == query[:2]:
                    return answer
        except OSError:
            return None


def question(query):
    """The one question of a query: a name, its type and its class."""
    at = HEADER_OCTETS
    while at < len(query) and query[at]:
        at += 1 + query[at]
    return query[HEADER_OCTETS : at + 5]
