"""A load that keeps every line of the dashboards moving, and the look at what a Prometheus made of it.

  load PORT SECONDS        three clients hand over mail, signed or not, that is delivered, with and without TLS, at once
                           and slowly, deferred, bounced, refused, or waits
  ready PROMETHEUS         succeeds when a scrape of Barid has succeeded
  rules PROMETHEUS         checks that every alert could be evaluated
  panels PROMETHEUS INSTANCE SECONDS FILE...
                           asks for every line of these dashboards, as Grafana would: each has a number now, and
                           those that should have moved within SECONDS have
"""

import itertools
import json
import math
import pathlib
import re
import smtplib
import ssl
import sys
import threading
import time
import urllib.parse
import urllib.request

# by address, as in the configuration
CLIENTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
RECIPIENTS = [
    "someone@plain.interop.test",
    "known@pf.test",
    "someone@soft.interop.test",
    "someone@slow.interop.test",
    "unknown@pf.test",
    "someone@strict.interop.test",
    "someone@dead.interop.test",
    "someone@nosuch.interop.test",
    # a domain of its own each time, so that the DNS is asked
    "someone@d{}.many.interop.test",
]
# by turns from an author whose mail is signed, and from another
AUTHORS = ["author@interop.test", "author@elsewhere.test"]
MESSAGE = "From: {}\r\nSubject: interop load\r\n\r\nHello.\r\n"
PAUSE_S = 0.05

# what counts faults, limits, sizes set aside, or what is over between two scrapes: it need not move
STEADY = re.compile(
    r"""barid_(store_fail\w+|panics_total|actor_restarts_total|log_lines_dropped_total|held_messages|resolver_doubted
    |dnssec_missing|tls_reports_total|certificates_ordered_total|clock_jumped|breakers_open|receivers_closed|receiver_closures_total|dkim_keys\w*|build_info|\w+_limit|disk_\w+|store_(?:log|index)_bytes|route_look_ups_open)|process_(start_time_seconds|max_fds|threads)""",
    re.VERBOSE,
)


def check(what, holds):
    if not holds:
        sys.exit(what)


def hand_over(port, source, until, context, faults):
    for number, to in enumerate(itertools.cycle(RECIPIENTS)):
        if time.monotonic() > until:
            return
        try:
            with smtplib.SMTP("127.0.0.1", port, timeout=30, source_address=(source, 0)) as smtp:
                if number % 2:
                    smtp.starttls(context=context)
                smtp.sendmail("sender@sender.test", [to.format(number)], MESSAGE.format(AUTHORS[number % 2]).encode())
                if number % 10 == 0:
                    code, _ = smtp.mail("sender@foreign.test")
                    check("a foreign sender was taken", code == 550)
        except (OSError, smtplib.SMTPException) as fault:
            faults.append(repr(fault))
            return
        time.sleep(PAUSE_S)


def load(port, seconds):
    context = ssl.create_default_context()
    # Barid has signed its certificate by itself
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    until, faults = time.monotonic() + float(seconds), []
    threads = [
        threading.Thread(target=hand_over, args=(int(port), source, until, context, faults)) for source in CLIENTS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(f"not all was taken: {faults}", not faults)


def ask(prometheus, path, **parameters):
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"http://{prometheus}/api/v1/{path}?{query}", timeout=10) as answer:
        return json.load(answer)["data"]


def ready(prometheus):
    up = ask(prometheus, "query", query='up{job="barid"}')["result"]
    check("not scraped yet", [series["value"][1] for series in up] == ["1"])


def rules(prometheus):
    alerts = [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]
    check("there are no alerts", alerts)
    for alert in alerts:
        check(f"{alert['name']}: {alert['health']} {alert.get('lastError')}", alert["health"] == "ok")


def faults_of(series, expression):
    """What is wrong with the lines of one query."""
    if not series:
        return "nothing"
    lines = [[float(value) for _, value in one["values"]] for one in series]
    if any(math.isnan(line[-1]) for line in lines):
        return "no number"
    names = re.findall(r"\b(?:barid|process)_\w+", expression)
    if all(STEADY.fullmatch(name) for name in names):
        return None
    # a quantile that stays in the first bucket stands still
    is_alive = any(line[-1] > 0 for line in lines) and "histogram_quantile" in expression
    has_moved = any(max(line) > min(line) for line in lines)
    return None if is_alive or has_moved else "nothing that moves"


def panels(prometheus, instance, seconds, *files):
    now, count, faults = time.time(), 0, []
    for file in files:
        board = json.loads(pathlib.Path(file).read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                count += 1
                query = target["expr"].replace("$__rate_interval", "10s").replace("$instance", re.escape(instance))
                query = query.replace("\\.", "\\\\.").replace("\\:", ":")
                series = ask(prometheus, "query_range", query=query, start=now - float(seconds), end=now, step=1)
                fault = faults_of(series["result"], target["expr"])
                if fault:
                    faults.append(f"{board['title']}: {panel['title']}: {fault}: {query}")
    for fault in faults:
        print(fault, file=sys.stderr)
    check(f"{len(faults)} of {count} lines are dead: {'; '.join(faults)}", not faults)
    print(f"{count} lines live")


if __name__ == "__main__":
    {"load": load, "ready": ready, "rules": rules, "panels": panels}[sys.argv[1]](*sys.argv[2:])
