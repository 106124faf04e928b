"""A disk filled to the last byte, by mail and by a stranger who takes whatever comes free; killed there, too."""

import subprocess
import threading
import time

import client
from stage import Broken, wait_until

DISK_MIB = 256
TIMES = 3
# How often the stranger takes what has come free.
AGAIN_SECONDS = 0.5
MESSAGE_KIB = 200
MEMORY_MIB = 250
# What a kill may repeat: results younger than 50 ms, on four connections to a server 20 ms away.
REPEATED_BY_KILL = 60


def run(stage):
    disk = mount(stage)
    stage.data = disk / "data"
    stage.configure(
        delivery="connections_per_site = 4",
        rest='[store]\nsegment_size = "8MiB"\nlog_slack = "8MiB"\nmemtable = "64KiB"\n[limits]\nconnections_per_address = 500\n',
    )
    stage.start_relay()
    fill_by_mail(stage)
    stranger = Stranger(disk)
    try:
        stranger.start()
        exhaust(stage)
        looked_after(stage, refuse, "with the disk full")
        stage.start_sink("--latency", "20ms")
        looked_after(stage, settle, "with the disk full")
        stage.kill_relay()
        stage.figures["restart_full_s"] = f"{stage.start_relay():.1f}"
        looked_after(stage, settle, "after a kill with the disk full")
        looked_after(stage, refuse, "after a kill with the disk full")
    finally:
        stranger.stop()
    looked_after(stage, recover)
    stage.await_delivery(60)
    stage.conclude(MEMORY_MIB, duplicates=REPEATED_BY_KILL)


def mount(stage):
    """A small file system of its own: ext4 as on most machines, or what the kernel has without a device."""
    disk, image = stage.root / "disk", stage.root / "disk.image"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        # no blocks kept for root: the last byte is meant
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], **quiet)
        subprocess.run(["mount", "-o", "loop", image, disk], **quiet)
        stage.figures["disk"] = f"ext4 {DISK_MIB} MiB"
    except (OSError, subprocess.CalledProcessError):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", disk], check=True)
        stage.figures["disk"] = f"tmpfs {DISK_MIB} MiB"
    return disk


class Stranger(threading.Thread):
    """Fills a disk to its last byte, and again whenever something comes free, until told to stop."""

    def __init__(self, disk):
        super().__init__(daemon=True)
        self.path, self.over = disk / "stranger", threading.Event()
        self.full = threading.Event()

    def run(self):
        with self.path.open("wb", buffering=0) as file:
            size = 1 << 20
            while not self.over.is_set():
                try:
                    file.write(b"\0" * size)
                except OSError:
                    # down to single bytes, then again from large pieces
                    size = size // 2 if size > 1 else 1 << 20
                    if size == 1 << 20:
                        self.full.set()
                        self.over.wait(AGAIN_SECONDS)

    def start(self):
        super().start()
        if not self.full.wait(30):
            raise Broken("the disk could not be filled")

    def stop(self):
        self.over.set()
        if self.is_alive():
            self.join()
        self.path.unlink(missing_ok=True)


def fill_by_mail(stage):
    """Nobody takes the mail: three times what fits is offered."""
    offered = TIMES * (DISK_MIB << 10) // MESSAGE_KIB
    load = stage.load("--messages", offered, "--sessions", 16, "--size", MESSAGE_KIB << 10, "--domains", 8)
    stage.figures.update(offered=offered, refused=load["refused_4xx"])
    stage.check(load["refused_4xx"] > 0, "the disk was never full")
    stage.check(load["refused_5xx"] == 0, f"{load['refused_5xx']} messages were refused for good")
    stage.check(load["connection_errors"] == 0, f"{load['connection_errors']} connections broke")


def exhaust(stage):
    """Uses up what the log has set aside already."""

    def is_refused():
        guest, _ = client.greeted()
        reply = stage.submit(guest, MESSAGE_KIB << 10)
        guest.close()
        return not reply.startswith("250 ")

    wait_until(is_refused, 30, "the log is full")


def looked_after(stage, step, *arguments):
    """A step under a supervisor: where the full disk has spoilt the index, the relay ends, and a new start builds it anew;
    then the step is taken once more."""
    faults = len(stage.faults)
    try:
        step(stage, *arguments)
    except OSError:
        # it is ending, or else something is wrong
        stage.relay.wait(5)
    if stage.relay.is_over():
        del stage.faults[faults:]
        stage.tend_relay()
        step(stage, *arguments)


def refuse(stage, when):
    """Clients are told what is wrong, and so is who asks for health."""
    for size in (0, 100 << 10, 1 << 20):
        guest, greeting = client.greeted()
        stage.check(greeting.startswith("220"), f"{when} a client is told {greeting!r}")
        reply = stage.submit(guest, size)
        stage.check(reply.startswith("452 4.3.1 "), f"{when} {size} octets are answered {reply!r}")
        guest.close()
    stage.check(stage.health() == 503, f"{when} /healthz is {stage.health()}")


def settle(stage, when):
    """Deliveries go on, and their results are kept, though nothing comes free."""
    before = set(stage.arrived())
    events = len(stage.events("delivered"))
    try:
        wait_until(lambda: len(set(stage.arrived()) - before) >= 50, 20, "50 messages are delivered")
        wait_until(lambda: len(stage.events("delivered")) >= events + 50, 5, "50 results are known")
        queued = stage.metric("barid_queued_messages")
        wait_until(lambda: stage.metric("barid_queued_messages") < queued, 10, "results are kept")
    except Broken as late:
        stage.fault(f"{when}: {late}")


def recover(stage):
    """The stranger's file is gone, and nobody did anything else."""
    started, reply = time.monotonic(), ""

    def is_taken():
        nonlocal reply
        guest, _ = client.greeted()
        reply = stage.submit(guest)
        guest.close()
        return reply.startswith("250 ")

    try:
        wait_until(is_taken, 15, "mail is accepted again")
        stage.await_health(15)
    except Broken as late:
        stage.fault(f"with room again: {late}; told {reply!r}")
    stage.figures["recovery_s"] = f"{time.monotonic() - started:.1f}"
    # the file system gives free what was removed bit by bit: clients may have to come again
    after = stage.load("--messages", 200, "--sessions", 20, "--retry", "--timeout", "30s")
    stage.check(after["accepted"] == 200, f"with room again only {after['accepted']} of 200 are accepted")
