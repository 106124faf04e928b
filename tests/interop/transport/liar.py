"""A resolver that lies, and what Barid makes of it.

  liar.py serve ADDRESS UPSTREAM   answers at ADDRESS:53 as UPSTREAM does, but for the lies
  liar.py judge BARID CONFIG       asks a running Barid about each domain that is lied about; fails where it believes

Whoever sits between Barid and its resolver can send what they like, and signatures of other times and names with it. No
lie may end DANE, nor make mail come back.
"""

import json
import socket
import subprocess
import sys
import threading

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype as types
import dns.rrset

UPSTREAM_SECONDS = 8
UDP_OCTETS = 1232
ZEROS = "3 1 1 " + "00" * 32


class Lies:
    """Answers as the upstream has them, and answers that are other than they should be."""

    def __init__(self, upstream):
        self.upstream = upstream

    def ask(self, name, kind):
        query = dns.message.make_query(name, kind, want_dnssec=True)
        return dns.query.udp_with_fallback(query, self.upstream, timeout=UPSTREAM_SECONDS)[0]

    def denied(self, query, rcode, authority):
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        answer.set_rcode(rcode)
        answer.use_edns(0, dns.flags.DO, UDP_OCTETS)
        answer.authority = authority
        return answer

    def insecure_soa(self):
        return [records for records in self.ask("unsigned.test", "SOA").answer if records.rdtype == types.SOA]

    def replayed_denial(self, kind):
        """A denial that is secure, of another name."""
        denial = self.ask("_25._tcp.mx.no-tlsa.signed.test", kind).authority
        return [records for records in denial if types.SOA not in (records.rdtype, records.covers)]

    def answer(self, query):
        truth, _ = dns.query.udp_with_fallback(query, self.upstream, timeout=UPSTREAM_SECONDS)
        asked = str(query.question[0].name).lower(), types.to_text(query.question[0].rdtype)
        told = [lie for _, name, kind, lie in LIES if (name, kind) == asked]
        return told[0](self, query, truth) if told else truth


def without_signatures(_, __, truth):
    truth.answer = [records for records in truth.answer if records.rdtype != types.RRSIG]
    return truth


def with_another(record):
    def lie(_, __, truth):
        truth.answer.append(dns.rrset.from_text("x.unsigned.test.", 300, "IN", *record))
        return truth
    return lie


def of_another(name):
    """The records of another owner, with whatever its zone says beside."""
    def lie(lies, query, _):
        answer = lies.denied(query, dns.rcode.NOERROR, lies.insecure_soa())
        answer.answer = lies.ask(name, types.to_text(query.question[0].rdtype)).answer
        return answer
    return lie


def denied_by_a_stranger(rcode):
    return lambda lies, query, _: lies.denied(query, rcode, lies.insecure_soa())


# the domain that is asked about, the question that is lied about, and the lie
LIES = [
    # denied by a zone that is insecure, and has nothing to do with it
    ("ee-key.signed.test", "_25._tcp.mx.ee-key.signed.test.", "TLSA", denied_by_a_stranger(dns.rcode.NOERROR)),
    ("ee-rsa.signed.test", "ee-rsa.signed.test.", "MX", denied_by_a_stranger(dns.rcode.NXDOMAIN)),
    # denied by its own zone's word on another name
    ("ee-cert.signed.test", "_25._tcp.mx.ee-cert.signed.test.", "TLSA",
     lambda lies, query, _: lies.denied(query, dns.rcode.NOERROR, lies.replayed_denial("TLSA"))),
    # denied by nobody
    ("ee-sni.signed.test", "_25._tcp.mx.ee-sni.signed.test.", "TLSA",
     lambda lies, query, _: lies.denied(query, dns.rcode.NOERROR, [])),
    ("ee-foreign.signed.test", "_25._tcp.mx.ee-foreign.signed.test.", "TLSA", without_signatures),
    ("ee-tls12.signed.test", "mx.ee-tls12.signed.test.", "A", without_signatures),
    # something that nobody signed is sent along
    ("ee-expired.signed.test", "_25._tcp.mx.ee-expired.signed.test.", "TLSA", with_another(("TLSA", ZEROS))),
    ("ee-misnamed.signed.test", "mx.ee-misnamed.signed.test.", "A", with_another(("A", "10.66.1.1"))),
    # the key of a zone that is insecure; and the word of its parent on a zone whose algorithm nobody knows
    ("ed25519.ed25519.test", "ed25519.test.", "DNSKEY", of_another("island.test")),
    ("p384.p384.test", "p384.test.", "DS", of_another("future.test")),
]


def serve(address, upstream):
    lies = Lies(upstream)
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind((address, 53))

    def reply(octets, to):
        query = dns.message.from_wire(octets)
        answer = lies.answer(query).to_wire(max_size=65535)
        if len(answer) > UDP_OCTETS:
            # there is no TCP here: what is too long is not lied about, and not needed
            answer = lies.denied(query, dns.rcode.SERVFAIL, []).to_wire()
        listening.sendto(answer, to)

    while True:
        octets, to = listening.recvfrom(UDP_OCTETS)
        threading.Thread(target=reply, args=(octets, to), daemon=True).start()


def judge(barid, config):
    believed = []
    for domain, _, kind, _ in LIES:
        asked = subprocess.run([barid, "trace", "--json", "--config", config, f"x@{domain}"],
                               capture_output=True, text=True, check=False)
        told = [json.loads(line) for line in asked.stdout.splitlines()]
        demands = [row["demand"]["by"] for row in told if "demand" in row]
        is_gone = any(row.get("is_permanent") for row in told)
        is_put_off = any("no_way" in row for row in told)
        if is_gone or not (is_put_off or demands) or any(demand not in ("DANE", "unknown") for demand in demands):
            believed.append(f"{domain} {kind}: {asked.stdout} {asked.stderr}")
    if believed:
        sys.exit("\n".join(believed))
    print(f"{len(LIES)} lies told, none believed")


if __name__ == "__main__":
    {"serve": serve, "judge": judge}[sys.argv[1]](*sys.argv[2:])
