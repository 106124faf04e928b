"""What Barid makes of the situations.

  barid.py settings WORLD          prints its settings for domains, in TOML
  barid.py send PORT STAGE         hands it a message for each domain
  barid.py judge WORLD LOG STAGE   waits until its log tells what became of each, compares that with the table and with
                                   what the mail hosts took; prints how many situations were judged, and fails with
                                   those that came out otherwise

STAGE is `first`, or `later` for those domains alone that have changed since.
"""

import json
import mailbox
import pathlib
import re
import smtplib
import sys
import time

from situations import SITUATIONS, concerned

# longer than a policy that comes slowly may take
PATIENCE_SECONDS = 90
POLL_SECONDS = 0.2
SENDER = "sender@sender.test"
FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
# as Postfix, Exim and aiosmtpd write it
TRACE = re.compile(r"by (\S+)\s.*with (E?SMTPS?)\s.*for <(\S+)>", re.DOTALL | re.IGNORECASE)


def settings(world):
    """The one place that knows how Barid calls them."""
    fingerprints = json.loads((pathlib.Path(world) / "fingerprints.json").read_text())
    for situation in SITUATIONS:
        if situation.override:
            print(f'[[tls.policies]]\ndomains = ["{situation.domain}"]\nmode = "{situation.override}"')
        if situation.fingerprints:
            print(f"certificates = {json.dumps([fingerprints[situation.domain][of] for of in situation.fingerprints])}")


def addressed(stage):
    """Situations by recipient."""
    return {f"barid-{stage}@{situation.domain}": situation for situation in concerned(stage)}


def send(port, stage):
    with smtplib.SMTP("127.0.0.1", int(port)) as smtp:
        for recipient in addressed(stage):
            message = f"From: {SENDER}\r\nTo: {recipient}\r\nSubject: policies\r\n\r\nHello.\r\n"
            smtp.sendmail(SENDER, [recipient], message)


def events(log):
    for line in pathlib.Path(log).read_text().splitlines():
        yield {key: value.strip('"') for key, value in FIELD.findall(line)}


def proof(event):
    return "clear" if event["tls"] in ("", "none") else event.get("proof") or "unproven"


def told(log, situations):
    """What the log tells of recipients: their outcomes, by which host, and why not."""
    by_domain = {situation.domain: to for to, situation in situations.items()}
    by_host = {situation.host_name(host): to for to, situation in situations.items() for host in situation.hosts}
    found = {}
    for event in events(log):
        match event.get("event"):
            case "delivered":
                to, outcome = event["to"].strip("<>"), (proof(event), event["remote"])
            case "deferred" | "bounced" as what:
                to, outcome = event["to"].strip("<>"), (what, event["reply"])
            case "no_route":
                to, outcome = by_domain.get(event["domain"]), ("deferred", event["error"])
            case "unreachable":
                hosts = re.split(r"[^\w.-]+", event["site"])
                to = next((by_host[host] for host in hosts if host in by_host), None)
                outcome = "deferred", event["reply"]
            case _:
                continue
        # the first counts: what was put off and went later was not to be put off
        found.setdefault(to, outcome)
    return found


def received(world):
    """What arrived: by recipient, the host and whether by TLS."""
    for message in mailbox.Maildir(pathlib.Path(world) / "mail", create=False):
        if trace := TRACE.search(message.get_all("Received")[0]):
            host, protocol, to = trace.groups()
            yield to, (host, protocol.upper() == "ESMTPS")


def due(situations):
    """What is to arrive."""
    return {to: (situation.host_name(situation.receiver), situation.expected != "clear")
            for to, situation in situations.items() if situation.expected != "deferred"}


def wait_until(is_so):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def judge(world, log, stage):
    situations = addressed(stage)
    wait_until(lambda: told(log, situations).keys() >= situations.keys())
    wrong = differing(told(log, situations), situations)
    if not wrong:
        wait_until(lambda: due(situations).keys() <= dict(received(world)).keys())
        wrong = astray(list(received(world)), situations)
    if wrong:
        sys.exit("\n".join(wrong))
    print(len(situations))


def differing(found, situations):
    """What has another outcome, or by another host."""
    wrong = []
    for to, situation in situations.items():
        what, how = found.get(to, ("nothing", "the log is silent"))
        is_delivered = what not in ("deferred", "bounced", "nothing")
        if what != situation.expected or is_delivered and how != situation.host_name(situation.receiver):
            wrong.append(f"{situation.name}: {what} ({how}), not {situation.expected}")
    return wrong


def astray(arrived, situations):
    """What hosts took that they were not to, or otherwise than they were to, or did not."""
    wanted = due(situations)
    wrong = [f"{to}: {host} took it {'by TLS' if tls else 'in clear'}" for to, (host, tls) in arrived
             if to in situations and wanted.get(to) != (host, tls)]
    return wrong + [f"{to}: never arrived" for to in wanted.keys() - dict(arrived).keys()]


if __name__ == "__main__":
    {"settings": settings, "send": send, "judge": judge}[sys.argv[1]](*sys.argv[2:])
