"""What Barid tells of its certificates, and sessions that must not notice when they change.

  listed NAME FIELD        prints what `barid cert ls --json`, on standard input, tells of the certificate for NAME
  change PORT ROOTS SECONDS NAME...
                           keeps a session with STARTTLS while others come and go, until other certificates are shown
                           for all of these names; then sends a message in it. Each certificate has to be proven by
                           ROOTS. Prints `under way` once there is a load, and last how many messages were taken
"""

import contextlib
import itertools
import json
import smtplib
import ssl
import sys
import threading
import time

THREADS = 4
PAUSE_S = 0.05
# sessions more after the change
MORE = 40
MORE_WITHIN_S = 20
MESSAGE = "From: sender@sender.test\r\nTo: someone@sink.test\r\nSubject: interop change\r\n\r\nHello.\r\n"


def check(what, holds):
    if not holds:
        sys.exit(what)


def listed(name, field):
    lines = [json.loads(line) for line in sys.stdin]
    found = [line for line in lines if name in line["names"]]
    check(f"{len(found)} certificates for {name} are listed, not one", len(found) == 1)
    check(f"nothing is told of {field}", field in found[0])
    value = found[0][field]
    print(" ".join(value) if isinstance(value, list) else "null" if value is None else value)


@contextlib.contextmanager
def session(port, context, name):
    """smtplib's own starttls asks for the name by which it has connected, which the DNS here does not know."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
        smtp.ehlo("client.sender.test")
        code, answer = smtp.docmd("STARTTLS")
        if code != 220:
            raise smtplib.SMTPResponseException(code, answer)
        smtp.sock = context.wrap_socket(smtp.sock, server_hostname=name)
        smtp.file = None
        smtp.ehlo("client.sender.test")
        yield smtp


def serial_in(smtp):
    return smtp.sock.getpeercert()["serialNumber"]


def send(smtp):
    smtp.sendmail("sender@sender.test", ["someone@sink.test"], MESSAGE)


class Load:
    """Small sessions, one message each, and what went wrong with them."""

    def __init__(self, port, context, names):
        self.session = lambda name: session(port, context, name)
        self.names = names
        # what each thread counts
        self.taken = [0] * THREADS
        self.faults = []
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.hand_over, args=(number,)) for number in range(THREADS)]

    def hand_over(self, number):
        for name in itertools.cycle(self.names):
            try:
                with self.session(name) as smtp:
                    send(smtp)
            except (OSError, smtplib.SMTPException) as fault:
                self.faults.append(f"{name}: {fault!r}")
                return
            self.taken[number] += 1
            if self.is_over.wait(PAUSE_S):
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def goes_on_until(self, what, seconds, holds):
        until = time.monotonic() + seconds
        while not holds():
            check(f"a session failed: {self.faults}", not self.faults)
            check(f"waited {seconds}s for {what}", time.monotonic() < until)
            time.sleep(PAUSE_S)


def change(port, roots, seconds, *names):
    port, context = int(port), ssl.create_default_context(cafile=roots)

    def serial_for(name):
        with session(port, context, name) as smtp:
            return serial_in(smtp)

    before = {name: serial_for(name) for name in names}
    with session(port, context, names[0]) as old, Load(port, context, names) as load:
        check("the certificate has changed too early", serial_in(old) == before[names[0]])
        load.goes_on_until("the first messages", MORE_WITHIN_S, lambda: all(load.taken))
        print("under way", flush=True)
        load.goes_on_until(
            "other certificates", float(seconds), lambda: all(serial_for(name) != before[name] for name in names)
        )
        enough = sum(load.taken) + MORE
        load.goes_on_until("sessions after the change", MORE_WITHIN_S, lambda: sum(load.taken) >= enough)
        # raises what is not a 250
        send(old)
    check(f"a session failed: {load.faults}", not load.faults)
    print(sum(load.taken) + 1)


if __name__ == "__main__":
    {"listed": listed, "change": change}[sys.argv[1]](*sys.argv[2:])
