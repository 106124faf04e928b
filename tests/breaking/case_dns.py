"""The DNS fails for every name, denies every name, answers nothing at all; mail comes in meanwhile."""

import time

from stage import wait_until

DOMAINS = 30
MESSAGES = 600
MEMORY_MIB = 150
# Longer than a name rests for the third time; than the resolver takes to give up, where nothing is answered.
OUTAGE_SECONDS = {"servfail": 5, "nxdomain": 5, "drop": 12}
DRAIN_SECONDS = 45


def run(stage):
    stage.configure(route=False)
    stage.start_sink(domains=DOMAINS)
    resolver = stage.start_resolver()
    for mood in ("servfail", "nxdomain", "drop"):
        # a relay that knows no answer yet, nor gets one at its start
        resolver.mood = mood
        stage.start_relay()
        fail(stage, resolver, mood)
        resolver.mood = "good"
        stage.figures[f"{mood}_recovery_s"] = f"{stage.await_delivery(DRAIN_SECONDS):.1f}"
        stage.check(stage.health() == 200, f"{mood}: not well in the end")
        stage.check(stage.metric("barid_resolver_doubted") == 0, f"{mood}: the resolver is doubted still")
        if mood != "drop":
            stage.check_log()
            stage.stop_relay()
            stage.relay.err.unlink()
    stage.conclude(MEMORY_MIB)


def fail(stage, resolver, mood):
    """Mail is taken, and kept; who looks after the relay hears of it."""
    began, asked = time.monotonic(), resolver.asked
    load = stage.load("--messages", MESSAGES, "--sessions", 30, "--domains", DOMAINS)
    stage.check(load["accepted"] == MESSAGES, f"{mood}: only {load['accepted']} of {MESSAGES} are accepted")
    wait_until(lambda: resolver.asked >= asked + DOMAINS, 20, f"{mood}: names are asked for")
    if mood == "nxdomain":
        wait_until(lambda: stage.metric("barid_resolver_doubted") == 1, 20, "the resolver is doubted")
    outage = OUTAGE_SECONDS[mood]
    wait_until(lambda: time.monotonic() - began >= outage, 2 * outage, "the outage is over")
    told = len(stage.events("resolver_doubted"))
    stage.check(told == (mood == "nxdomain"), f"{mood}: that the resolver is doubted is told {told} times")
    queued = stage.metric("barid_queued_messages")
    stage.check(queued >= MESSAGES, f"{mood}: {queued:.0f} of {MESSAGES} are in the queue")
    # each name rests: an outage must not become a storm of questions
    per_name = (resolver.asked - asked) / DOMAINS
    stage.figures[f"{mood}_asked"] = f"{per_name:.0f}/name"
    stage.check(per_name <= 60, f"{mood}: each name was asked for {per_name:.0f} times")
