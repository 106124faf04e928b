"""Three times as many connections as there may be, opened at once and held."""

import time

import client
from stage import wait_until

IN_ALL, PER_ADDRESS = 300, 100
TIMES = 3
# Refusals are one line each; a busy machine may still take its time.
AT_ONCE_SECONDS = 5
MEMORY_MIB = 150


def run(stage):
    stage.configure(rest=f"[limits]\nconnections = {IN_ALL}\nconnections_per_address = {PER_ADDRESS}\n")
    stage.start_sink()
    stage.start_relay()
    from_one_address(stage)
    from_many(stage)
    started = time.monotonic()
    newcomer, greeting = client.greeted()
    stage.check(greeting.startswith("220"), f"after the flood a newcomer is told {greeting!r}")
    stage.figures["recovery_s"] = f"{time.monotonic() - started:.1f}"
    newcomer.close()
    after = stage.load("--messages", 300, "--sessions", 30)
    stage.check(after["accepted"] == 300, f"after the flood only {after['accepted']} of 300 are accepted")
    stage.await_delivery(30)
    stage.check(stage.health() == 200, "not well in the end")
    refused = stage.metric("barid_refused_total")
    want = (TIMES - 1) * (PER_ADDRESS + IN_ALL)
    stage.check(refused == want, f"{refused:.0f} refusals are counted, {want} were given")
    stage.conclude(MEMORY_MIB)


def from_one_address(stage):
    """One address takes no more than its share, and nobody else's."""
    crowd = client.open_crowd(["127.0.9.1"], TIMES * PER_ADDRESS, AT_ONCE_SECONDS)
    inside = judge(stage, crowd, PER_ADDRESS, "one address")
    other, greeting = client.greeted("127.0.9.2")
    stage.check(greeting.startswith("220"), f"beside a greedy address another one is told {greeting!r}")
    reply = stage.submit(other)
    stage.check(reply.startswith("250 "), f"beside a greedy address another one is told {reply!r}")
    other.close()
    leave(stage, crowd, inside)


def from_many(stage):
    """All together get no more than there is."""
    sources = [f"127.0.8.{number}" for number in range(1, 1 + TIMES * IN_ALL // PER_ADDRESS)]
    crowd = client.open_crowd(sources, PER_ADDRESS, AT_ONCE_SECONDS)
    inside = judge(stage, crowd, IN_ALL, "all addresses")
    leave(stage, crowd, inside)
    stage.figures.update(opened=TIMES * (PER_ADDRESS + IN_ALL), admitted=PER_ADDRESS + IN_ALL)


def judge(stage, crowd, want, whose):
    """So many are greeted, all others told why not; gives those inside."""
    inside = [peer for peer, line in crowd if line.startswith("220 ")]
    refused = [line for _, line in crowd if line.startswith("421 4.7.0 ")]
    stage.check(len(inside) == want, f"{whose}: {len(inside)} are let in, not {want}")
    others = len(crowd) - len(inside) - len(refused)
    stage.check(others == 0, f"{whose}: {others} of {len(crowd)} got neither 220 nor 421 within {AT_ONCE_SECONDS} s")
    return inside


def leave(stage, crowd, inside):
    """Those inside work while the others are turned away; then all go."""
    for peer in inside[:: max(1, len(inside) // 20)]:
        guest = client.Client(peer)
        guest.say("EHLO hand.test")
        reply = stage.submit(guest)
        stage.check(reply.startswith("250 "), f"a client inside is told {reply!r}")
    for peer, _ in crowd:
        peer.close()
    wait_until(lambda: stage.metric("barid_inbound_connections_open") == 0, 15, "the crowd has gone")
