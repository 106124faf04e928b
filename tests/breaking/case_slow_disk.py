"""A disk that takes half a second for each sync, then hangs for seconds, under more load than it bears."""

import time

SYNC_SECONDS = 0.5
HANG_SECONDS = 4
MESSAGES = 2000
SESSIONS = 200
# A message waits for the sync under way and for its own; the rest is room.
LATENCY_P99_SECONDS = 10 * SYNC_SECONDS
MEMORY_MIB = 200


def run(stage):
    stage.configure(rest=f"[limits]\nconnections_per_address = {3 * SESSIONS}\n")
    stage.start_sink()
    stage.start_relay()
    stage.machine(sync_seconds=SYNC_SECONDS)
    slow = stage.load("--messages", MESSAGES, "--sessions", SESSIONS, seconds=90)
    latency = slow["latency_p99_ms"] / 1000
    stage.figures.update(sync_s=SYNC_SECONDS, accepted_per_s=f"{slow['accepted_per_second']:.0f}", p99_s=f"{latency:.2f}")
    stage.check(slow["accepted"] == MESSAGES, f"only {slow['accepted']} of {MESSAGES} are accepted")
    stage.check(latency >= SYNC_SECONDS, f"a message took {latency:.2f} s: the disk was not slow")
    stage.check(latency <= LATENCY_P99_SECONDS, f"accepting takes {latency:.1f} s, {LATENCY_P99_SECONDS} s are allowed")
    hang(stage)
    stage.await_delivery(30)
    stage.check(stage.health() == 200, "not well in the end")
    stage.conclude(MEMORY_MIB)


def hang(stage):
    """One sync hangs; who waits for it gets an answer when it is over."""
    stage.machine(sync_seconds=HANG_SECONDS)
    load = stage.start_load("--messages", 2 * SESSIONS, "--sessions", SESSIONS)
    began = time.monotonic()
    while time.monotonic() - began < HANG_SECONDS:
        # its own threads, not the writer's, answer for its health
        stage.check(stage.health() == 200, "/healthz does not answer while a sync hangs")
    stage.machine(sync_seconds=0)
    over = time.monotonic()
    load.wait(30)
    stage.figures["recovery_s"] = f"{time.monotonic() - over:.1f}"
    load = load.summary()
    stage.check(load["accepted"] == 2 * SESSIONS, f"only {load['accepted']} of {2 * SESSIONS} are accepted")
