"""Three times the messages that the machine bears, while the destination takes a third of what comes in."""

MEMORY_MIB = 200
CALIBRATION = 3000
LOAD_SECONDS = 5
SESSIONS = 600
# A reply may take as long as all sessions' messages together take to be accepted; the rest is room.
LATENCY_P99_SECONDS = 5
BACKLOG_MAX = 12_000
DRAIN_SECONDS = 75


def run(stage):
    # the destination is slow by its own latency, and by how many connections it gets
    stage.configure(
        delivery="connections_per_site = 8",
        rest=f"[limits]\nconnections = 2000\nconnections_per_address = {2 * SESSIONS}\n",
    )
    stage.start_sink("--latency", "2ms")
    stage.start_relay()
    bears = stage.load("--messages", CALIBRATION, "--sessions", 50)["accepted_per_second"]
    # as long as the flood lasts, but no more than can be drained in the time that there is
    messages = int(min(BACKLOG_MAX, 3 * bears * LOAD_SECONDS))
    flood = stage.start_load(
        "--messages", messages, "--sessions", SESSIONS, "--rate", f"{3 * bears:.0f}/s", "--per-connection", 20
    )
    queued, is_well = 0, True
    while not flood.is_over():
        queued = max(queued, stage.metric("barid_queued_messages"))
        is_well = is_well and stage.health() == 200
    flood.wait(60)
    flood = flood.summary()
    latency = flood["latency_p99_ms"] / 1000
    stage.figures.update(
        bears_per_s=f"{bears:.0f}",
        offered_per_s=f"{3 * bears:.0f}",
        accepted_per_s=f"{flood['accepted_per_second']:.0f}",
        refused=flood["refused_4xx"],
        queued=f"{queued:.0f}",
        p99_s=f"{latency:.2f}",
    )
    stage.check(latency <= LATENCY_P99_SECONDS, f"accepting takes {latency:.1f} s, {LATENCY_P99_SECONDS} s are allowed")
    stage.check(flood["refused_5xx"] == 0, f"{flood['refused_5xx']} messages were refused for good")
    stage.check(flood["connection_errors"] == 0, f"{flood['connection_errors']} connections broke")
    stage.check(queued >= messages / 4, f"the queue never held more than {queued:.0f}: the destination was not slow")
    stage.check(is_well, "/healthz was red, though nothing was wrong but the load")
    stage.figures["drained_s"] = f"{stage.await_delivery(DRAIN_SECONDS):.0f}"
    stage.check(stage.health() == 200, "not well in the end")
    stage.conclude(MEMORY_MIB)
