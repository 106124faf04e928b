"""What Postfix makes of the same situations: so that the table is not just what we think.

  postfix.py finger                 asks posttls-finger about each domain
  postfix.py send PORT LOG STAGE    hands a Postfix that heeds DANE and MTA-STS a message for each domain, and reads in
                                    its log what became of them; STAGE is `first`, or `later` for what has changed

Each prints how many situations were judged, and fails with those that came out otherwise.
"""

import re
import smtplib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from situations import SITUATIONS, concerned

PATIENCE_SECONDS = 60
FINGERS = 8
# the first that matches
SAYINGS = {
    "lookup": r"lookup failed|TLSA lookup error",
    "unproven": r"(server|CA) certificate verification failed",
    "verified": r"Verified TLS connection",
    "trusted": r"Trusted TLS connection",
    "untrusted": r"Untrusted TLS connection|Anonymous TLS connection",
    "broken": r"SSL_connect error|STARTTLS rejected",
    "no-tls": r"Connected to .*\n(?s:.*)> QUIT",
}


def finger():
    asked = [situation for situation in SITUATIONS if situation.finger != "none"]
    with ThreadPoolExecutor(FINGERS) as pool:
        said = pool.map(ask, asked)
    conclude((situation.name, verdict, situation.finger) for situation, verdict in zip(asked, said))


def ask(situation):
    command = ["posttls-finger", "-t", "10", "-p", ">=TLSv1.2", "-l", "dane", "-L", "summary", situation.domain]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return next((verdict for verdict, regex in SAYINGS.items() if re.search(regex, said)), said)


def send(port, log, stage):
    asked = [situation for situation in concerned(stage) if situation.postfix != "none"]
    sent = {f"postfix-{stage}@{situation.domain}": situation for situation in asked}
    with smtplib.SMTP("127.0.0.1", int(port)) as smtp:
        smtp.sendmail("", list(sent), "Subject: policies\r\n\r\nHello.\r\n")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := deliveries(log)).keys() >= sent.keys():
        if time.monotonic() > deadline:
            sys.exit(f"after {PATIENCE_SECONDS} seconds nothing is known of {' '.join(sent.keys() - found.keys())}")
        time.sleep(0.2)
    conclude((situation.name, proof(situation, *found[to]), situation.postfix) for to, situation in sent.items())


def deliveries(log):
    """By recipient, the status and what TLS was worth."""
    with open(log) as file:
        lines = file.read().splitlines()
    found, levels = {}, {}
    for line in lines:
        # processes deliver one after the other
        if met := re.search(r"/smtp\[(\d+)\]: (\w+) TLS connection established to (\S+): ", line):
            process, level, relay = met.groups()
            levels[process] = relay, level
        elif met := re.search(r"/smtp\[(\d+)\]: .*to=<(\S+)>, relay=(\S+), .*status=(\w+)", line):
            process, to, relay, status = met.groups()
            last_relay, level = levels.pop(process, (relay, None))
            found[to] = status, level if last_relay == relay else None
    return found


def proof(situation, status, level):
    """What the level of a delivery is worth."""
    if status != "sent":
        return status
    if level == "Trusted":
        # by TLSA records to which MX records of unknown origin lead; or by a root, but it may be of another name
        return "dane" if situation.finger == "trusted" else "unproven"
    return {"Verified": "mta-sts" if situation.policy else "dane", None: "clear"}.get(level, "unproven")


def conclude(results):
    results = list(results)
    wrong = [f"{name}: {verdict}, not {wanted}" for name, verdict, wanted in results if verdict != wanted]
    if wrong:
        sys.exit("\n".join(wrong))
    print(len(results))


if __name__ == "__main__":
    {"finger": finger, "send": send}[sys.argv[1]](*sys.argv[2:])
