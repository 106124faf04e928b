#!/usr/bin/env bash
#
# urgent.sh: a transactional message behind a long line of bulk mail.
#
#   loadtest/urgent.sh [options]
#
#   --messages N    bulk messages of one client, queued for one destination
#                   (default 1000000)
#   --urgent N      transactional messages of another client to it, one after the
#                   other (default 20)
#   --bin-dir DIR   barid, barid-load and barid-sink (default target/release)
#   --work-dir DIR  where data and logs are made (default /var/tmp)
#
# Needs jq. Uses loopback addresses only. The destination sends each reply 20 ms
# late, and the relay has its usual 20 connections to it, all of them busy. For
# each transactional message it is counted how many bulk messages arrived between
# its final dot and its own arrival: one is on the wire over each connection, and
# another may have been taken while it was read. Prints
#
#   urgent MESSAGES bulk_before_max VALUE   at most 40
#   urgent MESSAGES delay_max_ms VALUE
#
# Exits 1 if a figure misses its goal or the run failed, 2 on wrong usage.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE NAME=urgent
declare -rA KNOBS=([--messages]=MESSAGES [--urgent]=URGENT)
readonly SESSIONS=50 PER_CONNECTION=1000 MESSAGE_BYTES=1024 DOMAINS=1
readonly BULK_SOURCE=127.0.0.8 URGENT_SOURCE=127.0.0.7
readonly BEFORE_GOAL=40
MESSAGES=1000000
URGENT=20
BIN_DIR=$HERE/../target/release
WORK_BASE=/var/tmp
WORK=

# shellcheck source-path=SCRIPTDIR
source "$HERE/lib/clock.sh"
source "$HERE/lib/small-run.sh"
source "$HERE/lib/backlog-figures.sh"
source "$HERE/lib/backlog-servers.sh"

prepare() {
  relay_prepare
  sed -i "s#^networks = .*#networks = [\"$BULK_SOURCE/32\"]\nclass = \"bulk\"#" "$WORK/barid.toml"
  cat >>"$WORK/barid.toml" <<TOML

[[client]]
name = "shop"
networks = ["$URGENT_SOURCE/32"]
sender_domains = ["*"]
class = "transactional"
TOML
}

# send SOURCE NAME OPTION...: a load to its end.
send() {
  local source=$1 name=$2
  shift 2
  "$BIN_DIR/barid-load" --json --target "$RELAY_ADDRESS" --source "$source" --size "$MESSAGE_BYTES" \
    --per-connection "$PER_CONNECTION" "$@" >"$WORK/load-$name.json" 2>"$WORK/load-$name.log" &
  LOAD_PID=$!
  wait "$LOAD_PID" || die "the load failed"
  LOAD_PID=
}

arrivals() { lines "$WORK/sink-open.ledger"; }
flows() { (($(arrivals) >= 2000)); }
has_arrived() { grep -q "^$1-" "$WORK/sink-open.ledger"; }

send_urgent() {
  local number
  for ((number = 1; number <= URGENT; number++)); do
    send "$URGENT_SOURCE" urgent --sessions 1 --messages 1 --run-id "urgent$number" --stamps "$WORK/sent"
    wait_until 30 has_arrived "urgent$number" || die "urgent message $number did not arrive"
  done
}

# For each urgent message: bulk arrivals between its dot and its arrival, and ms.
judge() {
  awk '
    NR == FNR { sent[$1] = $2; next }
    { id[++count] = $1; at[count] = $2 }
    END {
      for (i = 1; i <= count; i++) {
        if (!(id[i] in sent)) continue
        before = 0
        for (j = i - 1; j > 0 && at[j] > sent[id[i]]; j--) before++
        delay = (at[i] - sent[id[i]]) / 1e6
        if (before > most) most = before
        if (delay > longest) longest = delay
      }
      printf "%d %.1f\n", most, longest
    }' "$WORK/sent" "$WORK/arrived"
}

main() {
  local most longest judgement=PASS
  begin "$@"
  prepare
  sink_start none "$UNUSED_PORT"
  relay_start fill
  relay_wait_ready
  send "$BULK_SOURCE" bulk --sessions "$SESSIONS" --messages "$MESSAGES" --run-id bulk
  relay_end TERM
  sink_end
  sink_start open "$MX_PORT" --latency 20ms --stamps "$WORK/arrived"
  relay_start drain
  wait_until 120 flows || die "nothing arrives"
  send_urgent
  relay_end KILL
  sink_end
  read -r most longest < <(judge)
  ((most <= BEFORE_GOAL)) || judgement=FAIL
  printf 'urgent %s bulk_before_max %s %s (goal: at most %s)\n' "$MESSAGES" "$most" "$judgement" "$BEFORE_GOAL"
  printf 'urgent %s delay_max_ms %s\n' "$MESSAGES" "$longest"
  [[ $judgement == PASS ]]
}

main "$@"
