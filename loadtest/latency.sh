#!/usr/bin/env bash
#
# latency.sh: how long Barid has a message when nothing is in its way.
#
#   loadtest/latency.sh [options]
#
#   --rate N        messages a second (default 100)
#   --seconds N     for so long (default 60)
#   --bin-dir DIR   barid, barid-load and barid-sink (default target/release)
#   --work-dir DIR  where data and logs are made: a real disk (default /var/tmp)
#
# Needs jq. Uses loopback addresses only. The time is that from the final dot of
# the client's message until the sink has its last octet, on the machine's
# monotonic clock. In between lies one fdatasync at least, so beside it, in the
# same run and on the same disk, an append of 4 KiB with an fdatasync is
# measured every ten milliseconds. Prints
#
#   latency relay_p50_ms, relay_p99_ms, raw_p50_ms, raw_p99_ms VALUE
#   latency p50_ratio VALUE   relay to raw: at most 3
#   latency p99_ratio VALUE   at most 6
#
# Exits 1 if a figure misses its goal or the run failed, 2 on wrong usage.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE NAME=latency
declare -rA KNOBS=([--rate]=RATE [--seconds]=SECONDS_LONG)
readonly P50_GOAL=3 P99_GOAL=6
RATE=100
SECONDS_LONG=60
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

# percentile PER_CENT: of the numbers in standard input, sorted.
percentile() {
  awk -v per_cent="$1" '{ all[NR] = $1 }
    END { place = int((NR * per_cent + 99) / 100); printf "%.3f\n", all[place < 1 ? 1 : place] }'
}

main() {
  local messages p50 p99 raw50 raw99
  begin "$@"
  messages=$((RATE * SECONDS_LONG))
  relay_prepare
  relay_start run
  relay_wait_ready
  sink_start run "$MX_PORT" --expect "$messages" --timeout "$((SECONDS_LONG + 60))s" --stamps "$WORK/arrived"
  "$BIN_DIR/barid-load" --json --target "$RELAY_ADDRESS" --sessions 4 --messages "$messages" \
    --rate "$RATE/s" --size 4096 --per-connection 1000000 --stamps "$WORK/sent" \
    --raw-sync "$WORK" >"$WORK/load.json" 2>"$WORK/load.log" || die "the load failed"
  wait "$SINK_PID" || die "not all of it arrived"
  SINK_PID=
  relay_end TERM
  join <(sort "$WORK/sent") <(sort "$WORK/arrived") | awk '{ printf "%.6f\n", ($3 - $2) / 1e6 }' |
    sort -g >"$WORK/times"
  [[ $(wc -l <"$WORK/times") == "$messages" ]] || die "some messages have no time"
  p50=$(percentile 50 <"$WORK/times") p99=$(percentile 99 <"$WORK/times")
  raw50=$(jq -r .raw_sync_p50_ms "$WORK/load.json") raw99=$(jq -r .raw_sync_p99_ms "$WORK/load.json")
  told relay_p50_ms "$p50"
  told relay_p99_ms "$p99"
  told raw_p50_ms "$raw50"
  told raw_p99_ms "$raw99"
  told p50_ratio "$(quotient "$p50" "$raw50" 2)" "$P50_GOAL"
  told p99_ratio "$(quotient "$p99" "$raw99" 2)" "$P99_GOAL"
  [[ $FAILED == no ]]
}

main "$@"
