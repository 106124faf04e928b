"""The stage of a case: the relay, loads and sinks round it, and what is asked of every outcome."""

import collections
import json
import os
import pathlib
import re
import resource
import shlex
import signal
import struct
import subprocess
import time
import urllib.error
import urllib.request

from resolver import Resolver

RELAY = ("127.0.0.1", 2525)
ADMIN = "127.0.0.1:8025"
SINK = "127.0.2.1:25"
RESOLVER, SINK_DNS = ("127.0.0.1", 53), ("127.0.0.1", 5300)
READY_SECONDS = 30
STOP_SECONDS = 60
POLL_SECONDS = 0.02
# The page that the relay is told the clock and its disk's slowness by.
SHIM_ORDERS = struct.Struct("qq")
# Lines of the relay's log that no case may cause.
NEVER = {"log_damaged", "held", "body_unreadable", "domain_died", "path_died", "manager_died", "store_ended",
         "read_panicked", "not_settled"}  # fmt: skip
# What is logged all the same where the relay could not go on, and was started again.
AROUND_AN_END = {"store_ended", "body_unreadable"}


class Broken(Exception):
    """The case cannot go on."""


def wait_until(condition, seconds, what):
    """Polls until the condition holds; gives what it gave."""
    end = time.monotonic() + seconds
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() > end:
            raise Broken(f"gave up after {seconds} s waiting until {what}")
        time.sleep(POLL_SECONDS)


def whole_lines(path):
    """A ledger's finished lines."""
    if not path.exists():
        return []
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1].decode().splitlines()


class Child:
    """A program of the case, with its files."""

    def __init__(self, stage, name, command, environment=None):
        self.out, self.err = stage.root / f"{name}.out", stage.root / f"{name}.log"
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(environment or {})},
            )
        self.name, self.pid = name, self.process.pid

    def is_over(self):
        return self.process.poll() is not None

    def wait(self, seconds):
        """Waits for its end; gives its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise Broken(f"{self.name} did not end within {seconds} s") from error

    def stop(self, seconds=STOP_SECONDS):
        """Tells it to end; gives its exit status."""
        if not self.is_over():
            self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def summary(self):
        """What a load or a sink tells at its end."""
        self.stop()
        try:
            return json.loads(self.out.read_text())
        except ValueError as error:
            raise Broken(f"{self.name} told nothing: {self.err.read_text()[-500:]}") from error

    # what the kernel knows of it

    def status_kib(self, key):
        found = re.search(rf"^{key}:\s+(\d+) kB$", pathlib.Path(f"/proc/{self.pid}/status").read_text(), re.M)
        return int(found[1]) if found else 0

    def peak_mib(self):
        return round(self.status_kib("VmHWM") / 1024)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Stage:
    """One case's files, programs, figures and faults."""

    def __init__(self, name, top):
        self.name, self.bins, self.root = name, top / "bin", top / name
        self.root.mkdir()
        self.shim, self.orders = top / "shim.so", self.root / "shim-orders"
        self.data, self.config = self.root / "data", self.root / "barid.toml"
        self.relay = self.resolver = None
        self.children, self.ledgers, self.sinks = [], [], []
        self.figures, self.faults = collections.OrderedDict(), []
        self.peak_mib, self.bounced, self.restarts = 0, 0, 0
        self.by_hand = 0  # messages accepted that are no load's, and bear no id
        self.machine(off_seconds=0, sync_seconds=0)

    # findings

    def fault(self, text):
        self.faults.append(text)

    def check(self, holds, text):
        if not holds:
            self.fault(text)
        return holds

    # programs

    def spawn(self, name, command, environment=None):
        child = Child(self, name, command, environment)
        self.children.append(child)
        return child

    def configure(self, delivery="", rest="", route=True):
        """Writes the configuration: the relay's own part, and what the case adds."""
        way = f'[[route]]\ndomains = ["*"]\nvia = "{SINK}"' if route else ""
        self.config.write_text(f"""hostname = "relay.example.org"
data_dir = "{self.data}"
[[listener]]
role = "relay"
address = "{RELAY[0]}:{RELAY[1]}"
[[listener]]
role = "admin"
address = "{ADMIN}"
[[client]]
name = "apps"
networks = ["127.0.0.0/8"]
sender_domains = ["*"]
{way}
[dns]
servers = ["{RESOLVER[0]}:{RESOLVER[1]}"]
[delivery]
allow_loopback = true
retry = ["1s"]
{delivery}
{rest}
""")

    def start_relay(self, limit_files=None):
        """Starts the relay, and waits until it serves; gives the seconds that took."""
        started = time.monotonic()
        command = [self.bins / "barid", "serve", "--config", self.config]
        if limit_files:
            command = ["prlimit", f"--nofile={limit_files}", *command]
        environment = {"LD_PRELOAD": self.shim, "BREAKING_SHIM": self.orders}
        environment = {key: str(value) for key, value in environment.items()}
        self.relay = self.spawn("relay", command, environment)
        wait_until(lambda: self.relay.is_over() or self.health(), READY_SECONDS, "the relay serves")
        if self.relay.is_over():
            raise Broken(f"the relay did not start: {self.relay.err.read_text()[-1000:]}")
        return time.monotonic() - started

    def tend_relay(self):
        """Does what a supervisor does: starts a relay again that ended because it could not go on."""
        if self.relay.is_over():
            self.restarts += 1
            self.figures["restarts"] = self.restarts
            self.check(self.relay.process.returncode == 1, f"the relay ended with {self.relay.process.returncode}")
            self.start_relay()

    def note_relay(self):
        """Takes down what is gone when the relay ends."""
        self.peak_mib = max(self.peak_mib, self.relay.peak_mib())
        self.bounced += self.metric("barid_bounced_recipients_total")

    def kill_relay(self):
        self.note_relay()
        self.relay.kill()

    def stop_relay(self):
        """Stops it in peace, which is one of the things asked of it."""
        if self.relay.is_over():
            return self.fault(f"the relay ended by itself: {self.relay.err.read_text()[-1000:]}")
        self.note_relay()
        self.check(self.relay.stop() == 0, "the relay did not stop in peace")
        return None

    def start_sink(self, *options, domains=None):
        """Starts a destination; with the DNS of so many domains, where that is asked for."""
        number = len(self.sinks)
        ledger = self.root / f"sink-{number}.ledger"
        command = [self.bins / "barid-sink", "--listen", SINK, "--json", "--ledger", ledger, *options]
        if domains:
            command += ["--dns", f"{SINK_DNS[0]}:{SINK_DNS[1]}", "--domains", domains]
        sink = self.spawn(f"sink-{number}", command)
        sink.ledger = ledger
        self.sinks.append(sink)
        wait_until(lambda: sink.is_over() or "listening" in sink.err.read_text(), READY_SECONDS, "the sink listens")
        return sink

    def start_load(self, *options):
        number = len(self.ledgers)
        ledger = self.root / f"load-{number}.ledger"
        command = [self.bins / "barid-load", "--target", f"{RELAY[0]}:{RELAY[1]}", "--json", "--ledger", ledger]
        load = self.spawn(f"load-{number}", [*command, "--run-id", f"r{number}", *options])
        self.ledgers.append(ledger)
        return load

    def submit(self, client, size=0):
        """A message by hand; gives the reply that decides."""
        reply = client.submit(size)
        self.by_hand += reply.startswith("250")
        return reply

    def load(self, *options, seconds=60):
        """Runs a load to its end; gives its summary."""
        load = self.start_load(*options)
        load.wait(seconds)
        return load.summary()

    def start_resolver(self):
        """A resolver that can be spoiled, in front of the DNS of the sink."""
        self.resolver = Resolver(RESOLVER, SINK_DNS)
        self.resolver.start()
        return self.resolver

    def end(self):
        """Ends what still runs, whatever became of the case."""
        if self.resolver:
            self.resolver.stop()
        for child in self.children:
            if not child.is_over():
                child.kill()

    # the machine under the relay

    def machine(self, off_seconds=None, sync_seconds=None):
        """Sets the relay's clock, and how long a sync takes."""
        off, sync = SHIM_ORDERS.unpack(self.orders.read_bytes()) if self.orders.exists() else (0, 0)
        if off_seconds is not None:
            off = int(off_seconds * 1e9)
        if sync_seconds is not None:
            sync = int(sync_seconds * 1e6)
        # in place: the relay has the page mapped
        with self.orders.open("r+b" if self.orders.exists() else "wb") as page:
            page.write(SHIM_ORDERS.pack(off, sync))

    def limit_files(self, soft, hard):
        resource.prlimit(self.relay.pid, resource.RLIMIT_NOFILE, (soft, hard))

    # what the relay tells

    def get(self, path):
        """The status and text of a page of the admin listener; nothing where there is no answer."""
        try:
            with urllib.request.urlopen(f"http://{ADMIN}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return None

    def health(self):
        """The status of /healthz, or nothing."""
        return (self.get("/healthz") or [None])[0]

    def metric(self, name):
        """The sum of a metric over all its labels; nothing measured is 0."""
        text = (self.get("/metrics") or (0, ""))[1]
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? ([-0-9.e+]+)$", text, re.M)
        return sum(map(float, found))

    def events(self, name=None):
        """The lines of the relay's log about an event, each as a dictionary."""
        lines = []
        for line in self.relay.err.read_text(errors="replace").splitlines():
            if name is None or f" event={name} " in f"{line} ":
                lines.append(fields_of(line))
        return lines

    def arrived(self):
        return [line for sink in self.sinks for line in whole_lines(sink.ledger)]

    def accepted(self):
        return {line for ledger in self.ledgers for line in whole_lines(ledger)}

    # the outcome

    def await_delivery(self, seconds):
        """Waits until all that was accepted has arrived; gives the seconds that took."""
        started = time.monotonic()
        try:
            wait_until(lambda: self.accepted() <= set(self.arrived()), seconds, "everything is delivered")
            wait_until(lambda: self.metric("barid_queued_messages") == 0, 15, "the queue is empty")
        except Broken as late:
            missing = self.accepted() - set(self.arrived())
            self.fault(f"{late}: {len(missing)} of {len(self.accepted())} missing, such as {sorted(missing)[:3]}")
        return time.monotonic() - started

    def await_health(self, seconds):
        """Waits until the relay says that it is well; gives the seconds that took."""
        started = time.monotonic()
        wait_until(lambda: self.health() == 200, seconds, "/healthz is green")
        return time.monotonic() - started

    def conclude(self, memory_mib, duplicates=0):
        """Ends the relay and the sinks, and judges what every case has to hold to."""
        self.stop_relay()
        summaries = [sink.summary() for sink in self.sinks]
        accepted, arrived = self.accepted(), self.arrived()
        lost = accepted - set(arrived)
        again = len(arrived) - len(set(arrived))
        self.figures.update(accepted=len(accepted), delivered=len(set(arrived)), lost=len(lost), twice=again)
        self.figures["peak_mib"] = self.peak_mib
        self.check(accepted, "nothing was accepted, so nothing was shown")
        self.check(not lost, f"lost {len(lost)} of {len(accepted)}, such as {sorted(lost)[:3]}")
        self.check(again <= duplicates, f"{again} were delivered twice, {duplicates} may be")
        self.check(self.bounced == 0, f"{self.bounced:.0f} recipients were given up")
        damaged, other = (sum(summary[key] for summary in summaries) for key in ("damaged", "other"))
        self.check(damaged == 0, f"{damaged} messages that arrived are damaged")
        self.check(other == self.by_hand, f"{other} messages arrived that are no load's, {self.by_hand} were accepted")
        self.check(self.peak_mib <= memory_mib, f"{self.peak_mib} MiB of memory, {memory_mib} are allowed")
        self.check_log()
        verify = [self.bins / "barid", "spool", "verify", "--config", self.config]
        verified = subprocess.run(verify, capture_output=True, text=True, check=False)
        self.check(verified.returncode == 0, f"spool verify found fault: {verified.stdout}{verified.stderr}")

    def check_log(self):
        text = self.relay.err.read_text(errors="replace")
        # a relay that ended because its index was spoilt says so, and that it could read nothing meanwhile
        never = NEVER - AROUND_AN_END if self.restarts else NEVER
        for line in text.splitlines():
            name = fields_of(line).get("event", "")
            if "panicked at" in line or name in never:
                self.fault(f"the relay logged: {line[:300]}")


def fields_of(line):
    """A line of the log by its keys; one of another form has none."""
    try:
        words = shlex.split(line)
    except ValueError:
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)
