"""The clock is set by hours and days while mail is queued, and set right again."""

import time

from stage import wait_until

STEPS = {"+2h": 2 * 3600, "+30d": 30 * 86_400, "-2h": -2 * 3600}
MESSAGES = 60
MEMORY_MIB = 150
DELIVERY_SECONDS = 20


# So long after a machine's start a clock that is set ahead is a clock that is set right, and is followed.
STARTING_SECONDS = 600


def run(stage):
    up = float(open("/proc/uptime", encoding="ascii").read().split()[0])
    stage.check(up > STARTING_SECONDS, f"the machine is up for {up:.0f} s only: again when it is up for ten minutes")
    stage.configure()
    for name, seconds in STEPS.items():
        step(stage, name, seconds)
    stage.conclude(MEMORY_MIB)


def step(stage, name, seconds):
    """Mail from before the step goes out during it; mail from during it goes out afterwards."""
    stage.start_relay()
    with Refusing(stage):
        defer(stage, name)
        stage.machine(off_seconds=seconds)
        wait_until(lambda: stage.metric("barid_clock_jumped") == 1, 10, f"{name}: the jump is noticed")
        shown = stage.events()[-1].get("time", "?")
        real = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + seconds))
        stage.check(shown[:13] in (real[:13], before(seconds)), f"{name}: the log shows {shown}, not {real}")
        attempts = stage.metric("barid_attempts_total")
        wait_until(lambda: stage.metric("barid_attempts_total") >= attempts + 20, 20, f"{name}: attempts go on")
    deliver(stage, f"{name}: while it is wrong")
    with Refusing(stage):
        defer(stage, name)
        stage.machine(off_seconds=0)
        wait_until(lambda: stage.metric("barid_clock_jumped") == 0, 10, f"{name}: it is believed again")
    stage.figures[f"{name}_recovery_s"] = f"{deliver(stage, f'{name}: when it is right'):.1f}"
    stage.check(stage.health() == 200, f"{name}: not well in the end")
    for event, want in (("clock_jumped", 1), ("clock_believed", 1)):
        told = len(stage.events(event))
        stage.check(told == want, f"{name}: {event} is told {told} times")
    if name != list(STEPS)[-1]:
        stage.check_log()
        stage.stop_relay()
        stage.relay.err.unlink()


def before(seconds):
    """The hour before, for a line that was written at the end of it."""
    return time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() + seconds - 60))


class Refusing:
    """A destination that puts everything off, for as long as it is there."""

    def __init__(self, stage):
        self.stage = stage

    def __enter__(self):
        self.sink = self.stage.start_sink("--reject-4xx", 1)

    def __exit__(self, *_):
        self.sink.stop()


def defer(stage, name):
    """New mail, which is tried and put off."""
    deferred = stage.metric("barid_deferred_recipients_total")
    load = stage.load("--messages", MESSAGES, "--sessions", 10)
    stage.check(load["accepted"] == MESSAGES, f"{name}: only {load['accepted']} of {MESSAGES} are accepted")
    enough = deferred + MESSAGES
    wait_until(lambda: stage.metric("barid_deferred_recipients_total") >= enough, 20, f"{name}: all is put off")


def deliver(stage, when):
    """A destination that takes everything gets everything; gives the seconds that took."""
    faults = len(stage.faults)
    sink = stage.start_sink()
    took = stage.await_delivery(DELIVERY_SECONDS)
    stage.faults[faults:] = [f"{when}: {fault}" for fault in stage.faults[faults:]]
    sink.stop()
    return took
