#!/usr/bin/env bash
#
# noop.sh: what clients notice of signing: how long Barid takes to answer a NOOP.
#
#   loadtest/noop.sh [options]
#
#   --rate N        messages a second that are signed (default: as many as go)
#   --seconds N     for so long, and as long with nothing to do (default 20)
#   --bin-dir DIR   barid, barid-load and barid-sink (default target/release)
#   --work-dir DIR  where data and logs are made: a real disk (default /var/tmp)
#
# Needs jq, openssl, and the right to raise priorities (root). Uses loopback addresses
# only. A session says NOOP every five milliseconds, first while a message a second
# comes in, then while mail comes in besides that is signed (RSA, 2048 bits) and
# delivered. What measures and what loads share the machine with the relay: the one
# comes before it (SCHED_FIFO), the other behind it (nice), as if both were elsewhere.
# Prints
#
#   noop idle_p50_ms, idle_p99_ms, loaded_p50_ms, loaded_p99_ms, loaded_max_ms VALUE
#   noop signed_per_second VALUE
#   noop p99_ratio VALUE      loaded to idle: at most 5
#
# Exits 1 if a figure misses its goal or the run failed, 2 on wrong usage.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE NAME=noop
declare -rA KNOBS=([--rate]=RATE [--seconds]=SECONDS_LONG)
readonly RATIO_GOAL=5
readonly UNPACED=1000000
RATE=$UNPACED
SECONDS_LONG=20
BIN_DIR=$HERE/../target/release
WORK_BASE=/var/tmp
WORK=
DOMAINS=1
FAILED=no

# shellcheck source-path=SCRIPTDIR
source "$HERE/lib/clock.sh"
source "$HERE/lib/small-run.sh"
source "$HERE/lib/backlog-figures.sh"
source "$HERE/lib/backlog-servers.sh"
source "$HERE/lib/signing.sh"

# load NAME MESSAGES
load() {
  nice -n 10 "$BIN_DIR/barid-load" --json --target "$RELAY_ADDRESS" --sessions 16 --messages "$2" --rate "$RATE/s" \
    --size 4096 --per-connection 1000000 >"$WORK/$1.json" 2>"$WORK/$1.log" || die "the load failed: $1"
}

# measure NAME: NOOPs, and a message a second.
measure() {
  chrt -f 1 "$BIN_DIR/barid-load" --json --target "$RELAY_ADDRESS" --sessions 1 --messages "$SECONDS_LONG" --rate 1/s \
    --per-connection 1000000 --noop >"$WORK/$1.json" 2>"$WORK/$1.log" || die "the measurement failed: $1"
}

figure() { jq -r ".$2" "$WORK/$1.json"; }

main() {
  local messages
  begin "$@"
  relay_prepare
  printf '[limits]\nidle_commands = 1000000\n' >>"$WORK/barid.toml"
  barid_signs "$WORK"
  relay_start run
  relay_wait_ready
  sink_start run "$MX_PORT"
  renice -n 10 -p "$SINK_PID" >/dev/null
  measure idle
  # as many as fit into the time, and some more: found out by a short run
  load found-out 2000
  messages=$(awk -v rate="$(figure found-out accepted_per_second)" -v time="$SECONDS_LONG" \
    'BEGIN { printf "%d\n", rate * (time + 2) }')
  load load "$messages" &
  LOAD_PID=$!
  measure loaded
  wait "$LOAD_PID" || die "the load failed"
  LOAD_PID=
  sink_end
  relay_end TERM
  told idle_p50_ms "$(figure idle noop_p50_ms)"
  told idle_p99_ms "$(figure idle noop_p99_ms)"
  told loaded_p50_ms "$(figure loaded noop_p50_ms)"
  told loaded_p99_ms "$(figure loaded noop_p99_ms)"
  told loaded_max_ms "$(figure loaded noop_max_ms)"
  told signed_per_second "$(figure load accepted_per_second)"
  told p99_ratio "$(quotient "$(figure loaded noop_p99_ms)" "$(figure idle noop_p99_ms)" 2)" "$RATIO_GOAL"
  [[ $FAILED == no ]]
}

main "$@"
