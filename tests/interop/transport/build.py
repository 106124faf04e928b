"""python3 build.py DIR: writes all that the servers of the world need into DIR.

What changes between the first message and the second is there twice, in DIR/first and DIR/later; DIR/now is the one
that counts.
"""

import itertools
import json
import pathlib
import sys

import reports
import servers
from certificates import Vault, new_key, key_pem, public_text
from situations import SITUATIONS, Certificate
from zones import Dns, ZONES

NAMESERVER = "10.66.0.1"
# reports are not posted into private networks
COLLECTOR_ADDRESS = "203.0.113.1"
RESOLVER = "127.0.0.53"
CARELESS_RESOLVER = "127.0.0.54"
# a nameserver that resolvers do not ask
NOBODY = "127.0.0.1"
STAGES = ("first", "later")
# short, for what changes
POLICY_TTL_SECONDS = 1
# the zone in which it does; nobody signs it
CHANGING = next(zone for zone in ZONES if zone.name == "unsigned.test")


class World:
    """Gathers what each situation needs, and writes it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.vault = Vault()
        self.dns = Dns(self.directory / "zones", NAMESERVER)
        self.numbers = itertools.count()
        self.hosts = []
        self.policies = {stage: [] for stage in STAGES}
        self.fingerprints = {}

    def new_address(self, ipv6=False):
        number = next(self.numbers)
        return f"fd66::1:{number:x}" if ipv6 else f"10.66.{1 + number // 200}.{1 + number % 200}"

    def write(self):
        for stage in STAGES:
            (self.directory / stage / "certificates").mkdir(parents=True)
            (self.directory / stage / "policies").mkdir()
        (self.directory / "now").symlink_to("first")
        self.show(Certificate(name="decoy.test"), "decoy")
        for situation in SITUATIONS:
            self.add_mail_hosts(situation)
            self.add_mx(situation)
            self.add_policy(situation)
        self.add_reports()
        self.write_zones()
        self.write_dns()
        self.write_servers()

    def show(self, certificate, owner, domain="", stages=STAGES):
        shown = self.vault.show(certificate, owner, domain)
        for stage in stages:
            (self.directory / stage / "certificates" / f"{owner}.pem").write_bytes(shown.pem)
        return shown

    def add_mail_hosts(self, situation):
        afterwards = situation.afterwards()
        for host, changed in zip(situation.hosts, afterwards.hosts):
            name = situation.host_name(host)
            shown = renewed = self.show(host.certificate, name, situation.domain)
            if changed.certificate != host.certificate:
                renewed = self.show(changed.certificate, name, situation.domain, STAGES[1:])
            self.add_addresses(situation, host)
            self.add_tlsa(situation, host, [self.vault.association(record, shown, renewed) for record in host.tlsa])
            for record in host.alias_tlsa:
                self.dns.add(f"_25._tcp.{name}", "TLSA", self.vault.association(record, shown, renewed))
            self.fingerprints[situation.domain] = {"leaf": shown.fingerprint, "other": self.vault.other_fingerprint}

    def add_addresses(self, situation, host):
        name, in_the_end, address = situation.host_name(host), situation.address_name(host), self.new_address(host.ipv6)
        self.dns.add(in_the_end, "AAAA" if host.ipv6 else "A", address)
        if host.alias:
            self.dns.add(name, "CNAME", f"{in_the_end}.")
        self.dns.bogus |= {(f"_25._tcp.{in_the_end}" if kind == "TLSA" else in_the_end, kind) for kind in host.bogus}
        self.hosts.append({"name": name, "address": address, "tls": host.tls, "sni": host.sni, "server": host.server,
                           "domain": situation.domain})

    def add_tlsa(self, situation, host, data):
        base = situation.address_name(host)
        owner = f"_25._tcp.{base}"
        match host.tlsa_by:
            case "lame":
                self.dns.add(owner, "NS", "nobody.")
            case "cname" | "insecure-cname":
                elsewhere = f"tlsa.{situation.name}.{situation.zone if host.tlsa_by == 'cname' else 'unsigned.test'}"
                self.dns.add(owner, "CNAME", f"{elsewhere}.")
                owner = elsewhere
            case "dname":
                self.dns.add(f"_tcp.{base}", "DNAME", f"tlsa.{situation.domain}.")
                owner = f"_25.tlsa.{situation.domain}"
            case "wildcard":
                owner = f"*._tcp.{base}"
        for entry in data:
            self.dns.add(owner, "TLSA", entry)

    def add_mx(self, situation):
        owner = situation.domain
        if situation.mx_by == "wildcard":
            owner = f"*.{owner.split('.', 1)[1]}"
        elif situation.mx_by == "cname":
            self.dns.add(owner, "CNAME", f"next-hop.{owner}.")
            owner = f"next-hop.{owner}"
        for number, host in enumerate(situation.hosts, 1):
            if host.label != "@":
                self.dns.add(owner, "MX", f"{10 * number} {situation.host_name(host)}.")
        if situation.bogus_mx:
            self.dns.bogus.add((owner, "MX"))

    def add_policy(self, situation):
        if not situation.policy:
            return
        address, name = self.new_address(), f"mta-sts.{situation.domain}"
        self.dns.add(name, "A", address)
        self.show(situation.policy.shows, name, situation.domain)
        for stage, policy in zip(STAGES, (situation.policy, situation.afterwards().policy)):
            file = self.directory / stage / "policies" / situation.domain
            file.write_text(servers.policy_text(policy, situation.domain), newline="")
            self.policies[stage].append((policy, situation.domain, address))

    def add_policy_records(self, stage):
        for policy, domain, _ in self.policies[stage]:
            owner = f"_mta-sts.{domain}"
            if policy.txt_by_cname:
                self.dns.add(owner, "CNAME", f"policy.{domain}.")
                owner = f"policy.{domain}"
            for text in policy.txt:
                self.dns.add(owner, "TXT", f'"{text}"', ttl=POLICY_TTL_SECONDS)

    def add_reports(self):
        """Which domains want reports, who takes them by HTTPS, and the key of the relay that sends them by mail."""
        for record in reports.records():
            self.dns.add(*record)
        key = new_key("rsa")
        self.dns.add(reports.COLLECTOR, "A", COLLECTOR_ADDRESS)
        self.show(Certificate(issuer="trusted"), reports.COLLECTOR)
        self.put("collector.address", COLLECTOR_ADDRESS)
        self.put("dkim.pem", key_pem(key).decode())
        owner, text = f"{reports.SELECTOR}._domainkey.{reports.SUBMITTER}", f"v=DKIM1; k=rsa; p={public_text(key)}"
        self.dns.add(owner, "TXT", f'"{text[:250]}" "{text[250:]}"')
        self.put("dkim.record", f"{owner} {text}\n")

    def write_zones(self):
        """All of them, and the one that changes once more."""
        self.dns.add("nobody", "A", NOBODY)
        unchanging = list(self.dns.records)
        self.add_policy_records("first")
        self.put("anchor", self.dns.write())
        changing = self.dns.path(CHANGING)
        changing.rename(self.directory / "first" / "changing.zone")
        self.dns.records = unchanging
        self.add_policy_records("later")
        self.dns.write_zone(CHANGING, serial=2)
        changing.rename(self.directory / "later" / "changing.zone")
        changing.symlink_to(self.directory / "now" / "changing.zone")

    def write_dns(self):
        self.put("hints", f". 3600 IN NS ns.\nns. 3600 IN A {NAMESERVER}\n")
        self.put("resolv.conf", f"nameserver {RESOLVER}\noptions trust-ad edns0\n")
        zones = [(zone.origin, self.dns.path(zone)) for zone in ZONES]
        self.put("nsd.conf", servers.nsd(self.directory, NAMESERVER, zones))
        self.put("unbound.conf", servers.unbound(self.directory, RESOLVER, validates=True))
        self.put("careless.conf", servers.unbound(self.directory, CARELESS_RESOLVER, validates=False))

    def write_servers(self):
        self.put("ca.pem", self.vault.trusted_pem().decode())
        self.put("fingerprints.json", json.dumps(self.fingerprints))
        by_server = {server: [host for host in self.hosts if host["server"] == server]
                     for server in ("aiosmtpd", "postfix", "exim")}
        self.put("hosts.json", json.dumps(by_server["aiosmtpd"]))
        self.put("postfix-hosts.main", servers.postfix_hosts(self.directory, by_server["postfix"]))
        self.put("postfix-hosts.master", servers.postfix_master(self.directory, by_server["postfix"]))
        self.put("postfix-sender.main", servers.postfix_sender(self.directory))
        self.put("mta-sts.yml", servers.mta_sts())
        self.put("exim.names", "".join(f"{host['address']}: {host['name']}\n" for host in by_server["exim"]))
        self.put("exim.conf", servers.exim(self.directory, by_server["exim"]))
        for stage, policies in self.policies.items():
            self.put(f"{stage}/nginx.conf", servers.nginx(self.directory, policies))

    def put(self, name, text):
        (self.directory / name).write_text(text)


if __name__ == "__main__":
    World(sys.argv[1]).write()
