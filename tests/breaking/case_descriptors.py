"""File descriptors used up: by clients that hold connections, while others send and mail goes out."""

import time

import client
from stage import Broken, wait_until

# What the relay gets beyond what it has open when idle.
SPARE = 24
HOLDERS = 100
SESSIONS = 60
MEMORY_MIB = 150
# Of one core; a loop that spins takes all of it.
CPU_SHARE_MAX = 0.5
STARVED_SECONDS = 3
# An operator is told, and not drowned.
LINES_MAX = 60


def run(stage):
    small_from_the_start(stage)
    stage.configure(delivery='connections_per_site = 10\nidle_timeout = "1s"', route=False)
    stage.start_sink("--latency", "5ms", domains=8)
    stage.start_resolver()
    stage.start_relay()
    # every part has been at work once, and has what it keeps open
    stage.load("--messages", 200, "--sessions", 10, "--domains", 8)
    stage.await_delivery(20)
    limit = stage.relay.descriptors() + SPARE
    stage.limit_files(limit, 4096)
    stage.figures["descriptors"] = limit
    crowd = starve(stage)
    free(stage, crowd)
    after = stage.load("--messages", 300, "--sessions", SESSIONS, "--domains", 8)
    stage.check(after["accepted"] == 300, f"with descriptors only {after['accepted']} of 300 are accepted")
    stage.await_delivery(30)
    stage.check(stage.health() == 200, "not well in the end")
    stage.conclude(MEMORY_MIB)


def small_from_the_start(stage):
    """A limit that cannot be enough is told at the start."""
    stage.configure()
    stage.start_relay(limit_files="128")
    told = stage.events("file_limit_low")
    stage.check(len(told) == 1, f"a limit of 128 descriptors is told {len(told)} times")
    stage.check(client.greeted()[1].startswith("220"), "with 128 descriptors nobody is greeted")
    stage.stop_relay()


def starve(stage):
    """Takes all descriptors; mail goes on as far as it can, and nothing spins."""
    stage.start_load("--messages", 100_000_000, "--sessions", SESSIONS, "--rate", "300/s", "--retry",
                     "--per-connection", 5, "--domains", 8, "--timeout", "60s")  # fmt: skip
    load = stage.children[-1]
    wait_until(lambda: len(stage.accepted()) > 300, 20, "the load is taken")
    crowd = client.open_crowd(["127.0.0.1"], HOLDERS, STARVED_SECONDS)
    summary = load.summary()
    stage.figures.update(refused=summary["refused_4xx"], broken=summary["connection_errors"])
    stage.check(summary["refused_5xx"] == 0, f"{summary['refused_5xx']} messages were refused for good")
    greeted = [line for _, line in crowd if line.startswith("220")]
    stage.check(len(greeted) < HOLDERS, "there were descriptors for everybody")
    wait_until(lambda: stage.relay.descriptors() >= stage.figures["descriptors"] - 8, 10, "descriptors are used up")
    before, began = stage.relay.cpu_seconds(), time.monotonic()
    time.sleep(STARVED_SECONDS)
    share = (stage.relay.cpu_seconds() - before) / (time.monotonic() - began)
    stage.figures["cpu_share"] = f"{share:.2f}"
    stage.check(share <= CPU_SHARE_MAX, f"without descriptors it takes {share:.2f} of a core")
    lines = len(stage.events())
    told = [line for line in stage.events() if "Too many open files" in " ".join(line.values())]
    stage.figures["told"] = len(told)
    stage.check(told, "the log does not tell that descriptors are used up")
    blamed = [line for line in told if line.get("event") == "unreachable"]
    stage.check(not blamed, f"{len(blamed)} times a server is called unreachable because we have no descriptors")
    stage.check(len(told) <= LINES_MAX, f"the log tells it {len(told)} times, in {lines} lines")
    return crowd


def free(stage, crowd):
    """First most of those who hold connections go; then there is a new limit."""
    staying = SPARE // 3
    for peer, _ in crowd[staying:]:
        peer.close()
    started = time.monotonic()

    def is_greeted():
        try:
            newcomer, greeting = client.greeted(seconds=2)
        except (Broken, OSError):
            return False
        newcomer.close()
        return greeting.startswith("220")

    wait_until(is_greeted, 15, "somebody is greeted when others have gone")
    stage.figures["recovery_s"] = f"{time.monotonic() - started:.1f}"
    stage.limit_files(4096, 4096)
    wait_until(is_greeted, 15, "somebody is greeted when there is a new limit")
    stage.await_health(15)
    for peer, _ in crowd[:staying]:
        peer.close()
