"""The DNS of the world: a root of its own, and zones of every kind below it. BIND's tools sign them."""

import base64
import datetime
import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

DAY = datetime.timedelta(days=1)
TTL_SECONDS = 300
UNKNOWN_ALGORITHM = 200


@dataclass(frozen=True)
class Zone:
    name: str
    # "nsec", "nsec3", "opt-out" (NSEC3 that leaves insecure delegations out), or "none"
    signing: str = "nsec"
    algorithm: str = "ECDSAP256SHA256"
    # what the zone above says of its key: "right", "wrong", "future" (of an algorithm that nobody knows), "none"
    ds: str = "right"
    expired: bool = False
    # the zone above cannot prove what it says
    undenied: bool = False

    @property
    def origin(self):
        return absolute(self.name)

    @property
    def above(self):
        return max((zone for zone in ZONES if zone is not self and holds(zone.name, self.name)),
                   key=lambda zone: len(zone.name))


ROOT = Zone("")
ZONES = [
    ROOT,
    Zone("test"),
    Zone("signed.test"),
    Zone("nsec3.test", "nsec3"),
    Zone("opt-out.test", "opt-out"),
    Zone("rsa.test", algorithm="RSASHA256"),
    Zone("ed25519.test", algorithm="ED25519"),
    Zone("p384.test", algorithm="ECDSAP384SHA384"),
    # insecure, as somebody can prove
    Zone("unsigned.test", "none", ds="none"),
    Zone("unsigned.nsec3.test", "none", ds="none"),
    Zone("unsigned.opt-out.test", "none", ds="none"),
    Zone("island.test", ds="none"),
    Zone("future.test", ds="future"),
    # bogus
    Zone("wrong-ds.test", ds="wrong"),
    Zone("expired.test", expired=True),
    Zone("stripped.test", "none"),
    Zone("undenied.test", "none", ds="none", undenied=True),
]


def absolute(name):
    return f"{name}."


def holds(zone, name):
    """Whether the name lies in the zone or below."""
    return not zone or name == zone or name.endswith(f".{zone}")


def zone_of(name):
    return max((zone for zone in ZONES if holds(zone.name, name)), key=lambda zone: len(zone.name))


@dataclass(frozen=True)
class Record:
    owner: str
    type: str
    data: str
    ttl: int = TTL_SECONDS

    def __str__(self):
        return f"{absolute(self.owner)} {self.ttl} IN {self.type} {self.data}"


class Delegation(Record):
    """The upper zone's, though its owner is the lower one's name."""


class Dns:
    """All records; those whose signatures are to be broken, as owner and type; and where files go."""

    def __init__(self, directory, address):
        self.directory = directory
        self.bogus = {(zone.name, "NSEC") for zone in ZONES if zone.undenied}
        self.records = [Record("ns", "A", address)]

    def add(self, owner, kind, data, **more):
        self.records.append(Record(owner, kind, data, **more))

    def path(self, zone):
        return self.directory / f"{zone.name or 'root'}.zone"

    def write(self):
        """All zones, and the root's key as trust anchor."""
        self.directory.mkdir()
        with ThreadPoolExecutor() as pool:
            keys = dict(zip(ZONES, pool.map(self.make_key, ZONES)))
            for zone in ZONES:
                if zone is not ROOT:
                    self.delegate(zone, keys[zone])
            list(pool.map(lambda zone: self.write_zone(zone, keys[zone]), ZONES))
        return keys[ROOT].read_text()

    def delegate(self, zone, key):
        self.records.append(Delegation(zone.name, "NS", "ns."))
        if zone.ds != "none":
            number, algorithm, kind, digest = run("dnssec-dsfromkey", "-2", key).split()[-4:]
            if zone.ds == "future":
                algorithm = UNKNOWN_ALGORITHM
            elif zone.ds == "wrong":
                digest = "0" * len(digest)
            self.records.append(Delegation(zone.name, "DS", f"{number} {algorithm} {kind} {digest}"))

    def make_key(self, zone):
        """A key that signs keys and all else."""
        name = run("dnssec-keygen", "-q", "-K", self.directory, "-a", zone.algorithm,
                   *(["-b", "2048"] if zone.algorithm.startswith("RSA") else []), "-f", "KSK", zone.origin)
        return self.directory / f"{name.strip()}.key"

    def write_zone(self, zone, key=None, serial=1):
        lines = [f"{zone.origin} {TTL_SECONDS} IN SOA ns. postmaster. {serial} 3600 600 86400 {TTL_SECONDS}",
                 f"{zone.origin} {TTL_SECONDS} IN NS ns.",
                 *(str(record) for record in self.records if record_zone(record) is zone)]
        path = self.path(zone)
        path.write_text("\n".join(lines) + "\n")
        if zone.signing != "none":
            self.sign(zone, path, key)

    def sign(self, zone, path, key):
        since, until = (-9 * DAY, -DAY) if zone.expired else (-DAY, 9 * DAY)
        denial = {"nsec": [], "nsec3": ["-3", "-"], "opt-out": ["-3", "-", "-A"]}[zone.signing]
        with path.open("a") as file:
            file.write(key.read_text())
        # -z: the one key signs all; -P: faults are meant
        run("dnssec-signzone", "-q", "-z", "-P", "-O", "full", "-s", moment(since), "-e", moment(until), *denial,
            "-o", zone.origin, "-d", self.directory, "-f", path, path, key)
        if broken := [entry for entry in self.bogus if zone_that_signs(entry[0]) is zone]:
            path.write_text(break_signatures(path.read_text(), broken))


def record_zone(record):
    zone = zone_of(record.owner)
    return zone.above if isinstance(record, Delegation) else zone


def zone_that_signs(owner):
    zone = zone_of(owner)
    return zone.above if zone.name == owner and zone.signing == "none" else zone


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} fails: {done.stderr}")
    return done.stdout


def moment(distance):
    return (datetime.datetime.now(datetime.UTC) + distance).strftime("%Y%m%d%H%M%S")


def break_signatures(text, entries):
    """The zone with another octet in the signatures of these records."""
    wanted = {(hashed(owner) if kind == "NSEC3" else absolute(owner), kind) for owner, kind in entries}
    met, lines = set(), []
    for line in text.splitlines():
        fields = line.split(None, 12)
        if len(fields) > 12 and fields[3] == "RRSIG" and (fields[0], fields[4]) in wanted:
            met.add((fields[0], fields[4]))
            signature = fields[12].replace(" ", "")
            fields[12] = ("B" if signature[0] == "A" else "A") + signature[1:]
        lines.append(" ".join(fields))
    assert met == wanted, f"no signatures of {wanted - met}"
    return "\n".join(lines) + "\n"


def hashed(name):
    """The owner of the name's NSEC3 record, without salt and iterations (RFC 5155)."""
    wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    alphabet = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHIJKLMNOPQRSTUV")
    digest = base64.b32encode(hashlib.sha1(wire).digest()).translate(alphabet).decode()
    return f"{digest}.{absolute(zone_of(name).name)}"
