#!/usr/bin/env bash
#
# backlog.sh: what a long queue for dead destinations costs Barid.
#
#   loadtest/backlog.sh [options]
#
#   --messages N        how many are queued (default 1000000)
#   --domains N         over how many recipient domains, each with an MX host of
#                       its own (default 1)
#   --size N            octets of each message (default 1024; memory does not
#                       depend on it, the disk does)
#   --relay-messages N  how many measure the empty queue's relay rate (default
#                       20000, or one for each domain if there are more)
#   --settle N          seconds that the relay spends with the whole queue and
#                       dead destinations before each restart (default 30)
#   --bin-dir DIR       barid, barid-load and barid-sink (default target/release)
#   --work-dir DIR      where data and logs are made: a real disk, with about
#                       2 KB + twice the size of a message for each (default
#                       /var/tmp)
#   --keep              leaves the files there
#
# Needs jq. Uses loopback addresses only. The steps:
#
#   empty    a relay with nothing queued passes mail on to a sink that listens:
#            the rate that the drain is held against
#   fill     a new relay, the destinations dead: DNS names their MX hosts, where
#            nobody listens. All messages are accepted and stay
#   killed   SIGKILL; the destinations are back; the relay is started; once the
#            first message has arrived it is stopped (SIGTERM)
#   dead     started again, the destinations dead again, until --settle is over
#   stopped  SIGTERM; the destinations are back; the relay is started and
#            drains the queue to its end
#
# Prints a line for each figure, and the judgement where there is a goal:
#
#   backlog MESSAGESxDOMAINS METRIC VALUE [PASS|FAIL (goal: ...)]
#
#   empty_relay_per_second   arrivals a second at the sink, the queue empty
#   fill_per_second          messages accepted a second
#   disk_mib                 what the data directory takes when it is filled
#   first_delivery_s_*       from the start of the process until the first
#                            arrival, after SIGKILL and after SIGTERM: below 5 s
#   stop_s                   from SIGTERM until the process has ended
#   drain_per_second         arrivals a second over the whole drain, from its
#                            first to its last: at least 80 % of empty_relay...
#   *_cpu_us_per_message     CPU of the relay; the empty queue's includes taking
#                            the messages in
#   duplicates, lost         of the accepted ones: none may be lost
#   rss_mib_LIFE             largest resident memory (VmHWM, read each 100 ms) of
#                            each process, and of all: below 200 MiB up to a
#                            million messages, beyond that below 64 MiB and 80
#                            octets for each. The page cache does not count
#
# A machine that does other things meanwhile bends the rates.
#
# Exits 1 if a figure misses its goal or the measurement broke off, 2 on wrong
# usage.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly SESSIONS=50
readonly PER_CONNECTION=1000
readonly WARM_UP_MESSAGES=1000
readonly WARM_UP_REST_S=7
readonly FIRST_DELIVERY_GOAL_S=5
readonly DRAIN_SHARE_GOAL=0.8
# the longest rest between two looks at a dead destination, and some more
readonly STALL_S=700

MESSAGES=1000000
DOMAINS=1
MESSAGE_BYTES=1024
RELAY_MESSAGES=
SETTLE_S=30
BIN_DIR=$HERE/../target/release
WORK_BASE=/var/tmp
KEEP=no

WORK= # everything this script writes
EMPTY_RATE=

die() {
  printf 'backlog: %s\n' "$*" >&2
  KEEP=yes
  exit 1
}

wrong_usage() {
  printf 'backlog: %s (--help tells more)\n' "$*" >&2
  exit 2
}

# shellcheck source-path=SCRIPTDIR
source "$HERE/lib/clock.sh"
source "$HERE/lib/backlog-figures.sh"
source "$HERE/lib/backlog-servers.sh"

usage() { sed -n '3,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

parse_arguments() {
  while (($#)); do
    case $1 in
      --keep) KEEP=yes ;;
      --help | -h) usage && exit 0 ;;
      --messages | --domains | --size | --relay-messages | --settle)
        [[ ${2-} =~ ^[1-9][0-9]*$ ]] || wrong_usage "$1 needs a number from 1"
        parse_number "$1" "$2"
        shift
        ;;
      --bin-dir | --work-dir)
        [[ -d ${2-} ]] || wrong_usage "$1 needs a directory"
        if [[ $1 == --bin-dir ]]; then BIN_DIR=$2; else WORK_BASE=$2; fi
        shift
        ;;
      *) wrong_usage "unknown argument $1" ;;
    esac
    shift
  done
  : "${RELAY_MESSAGES:=$((DOMAINS > 20000 ? DOMAINS : 20000))}"
}

parse_number() {
  case $1 in
    --messages) MESSAGES=$2 ;;
    --domains) DOMAINS=$2 ;;
    --size) MESSAGE_BYTES=$2 ;;
    --relay-messages) RELAY_MESSAGES=$2 ;;
    --settle) SETTLE_S=$2 ;;
  esac
}

check_tools() {
  local tool
  command -v jq >/dev/null || die "jq is missing"
  for tool in barid barid-load barid-sink; do
    [[ -x $BIN_DIR/$tool ]] || die "$BIN_DIR/$tool is missing"
  done
}

clean_up() {
  servers_end
  if [[ -z $WORK ]]; then return 0; fi
  if [[ $KEEP == yes ]]; then
    printf 'backlog: the files are in %s\n' "$WORK" >&2
  else
    rm -rf "$WORK"
  fi
}

note() { printf 'backlog: %6d s  %s\n' "$(($(now_ms) / 1000 - STARTED_S))" "$*" >&2; }

# The empty queue's rate.
measure_empty() {
  local cpu
  relay_prepare
  relay_start empty
  relay_wait_ready
  warm_up
  sink_start empty "$MX_PORT" --expect "$RELAY_MESSAGES" --timeout "${STALL_S}s"
  cpu=$(cpu_ms "$BARID_PID")
  load_run empty "$RELAY_MESSAGES"
  sink_wait
  cpu=$(($(cpu_ms "$BARID_PID") - cpu))
  relay_end TERM
  EMPTY_RATE=$(jq -r .relayed_per_second "$WORK/sink-empty.json")
  figure empty_relay_per_second "$(quotient "$EMPTY_RATE" 1 0)"
  figure empty_cpu_us_per_message "$(quotient "$((1000 * cpu))" "$RELAY_MESSAGES" 0)"
}

# A few messages go first, for buffers. The relay keeps connections for five
# seconds; the sink stays until then, so that none of them breaks.
warm_up() {
  sink_start warm-up "$MX_PORT"
  load_run warm-up "$WARM_UP_MESSAGES"
  wait_until 60 all_arrived warm-up "$WARM_UP_MESSAGES" || die "the warm-up did not arrive; see $WORK"
  sleep "$WARM_UP_REST_S"
  sink_end
}

all_arrived() { (($(lines "$WORK/sink-$1.ledger") >= $2)); }

# Waits until all that is expected has arrived.
sink_wait() {
  wait "$SINK_PID" || die "not all of it arrived; see $WORK"
  SINK_PID=
}

fill() {
  local started
  relay_prepare
  sink_start none-fill "$UNUSED_PORT"
  relay_start fill
  relay_wait_ready
  started=$(now_ms)
  load_run fill "$MESSAGES"
  figure fill_per_second "$(quotient "$((1000 * MESSAGES))" "$(($(now_ms) - started))" 0)"
  sleep "$SETTLE_S"
  relay_is_alive || die "the relay has ended; see $WORK"
  figure disk_mib "$(du -sm "$WORK/data" | cut -f 1)"
}

# revive LIFE SIGNAL: ends the relay by SIGNAL, brings the destinations back and
# starts it; returns at the first arrival.
revive() {
  local stopped started
  stopped=$(now_ms)
  relay_end "$2"
  if [[ $2 == TERM ]]; then figure stop_s "$(quotient "$(($(now_ms) - stopped))" 1000 2)"; fi
  sink_end
  sink_start "$1" "$MX_PORT"
  started=$(now_ms)
  relay_start "$1"
  wait_until "$STALL_S" something_arrived "$1" || die "nothing arrived; see $WORK"
  figure "first_delivery_s_$1" "$(quotient "$(($(now_ms) - started))" 1000 2)" below "$FIRST_DELIVERY_GOAL_S"
}

something_arrived() { [[ -s $WORK/sink-$1.ledger ]]; }

# The destinations die again, behind the relay's back.
die_again() {
  relay_end TERM
  sink_end
  sink_start none-dead "$UNUSED_PORT"
  relay_start dead
  relay_wait_ready
  sleep "$SETTLE_S"
  relay_is_alive || die "the relay has ended; see $WORK"
}

# Waits until the queue is empty; notes on the way in drain.samples: seconds,
# octets in the sink's ledger, resident KiB.
drain() {
  local cpu=0 before=0 now moved
  moved=$(now_ms)
  until [[ $(relay_metric barid_queued_messages) == 0 ]]; do
    relay_is_alive || die "the relay has ended; see $WORK"
    cpu=$(cpu_ms "$BARID_PID")
    now=$(octets "$WORK/sink-stopped.ledger")
    if ((now > before)); then before=$now moved=$(now_ms); fi
    (($(now_ms) - moved < 1000 * STALL_S)) || die "the drain stands still; see $WORK"
    printf '%d %d %d\n' "$(($(now_ms) / 1000 - STARTED_S))" "$now" \
      "$(awk '/^VmRSS/ { print $2 }' "/proc/$BARID_PID/status")" >>"$WORK/drain.samples"
    sleep 1
  done
  sink_end
  relay_end TERM
  judge_drain "$cpu"
}

# judge_drain CPU_MS
judge_drain() {
  local rate received
  rate=$(jq -r .relayed_per_second "$WORK/sink-stopped.json")
  received=$(jq -r .received "$WORK/sink-stopped.json")
  figure drain_per_second "$(quotient "$rate" 1 0)"
  figure drain_share "$(quotient "$rate" "$EMPTY_RATE" 2)" at-least "$DRAIN_SHARE_GOAL"
  figure drain_cpu_us_per_message "$(quotient "$((1000 * $1))" "$received" 0)"
}

judge_arrivals() {
  local arrivals=("$WORK/sink-killed.ledger" "$WORK/sink-stopped.ledger")
  export LC_ALL=C
  sort -u "${arrivals[@]}" >"$WORK/arrived"
  sort "$WORK/load-fill.ledger" >"$WORK/accepted"
  figure duplicates "$(($(lines "${arrivals[@]}") - $(lines "$WORK/arrived")))"
  figure lost "$(comm -23 "$WORK/accepted" "$WORK/arrived" | wc -l)" below 1
}

judge_memory() {
  local life goal=200
  if ((MESSAGES > 1000000)); then goal=$((64 + 80 * MESSAGES / 1048576)); fi
  for life in empty fill killed dead stopped; do
    figure "rss_mib_$life" "$(rss_peak_mib "$life")"
  done
  figure rss_mib "$(rss_peak_mib fill killed dead stopped)" below "$goal"
}

main() {
  parse_arguments "$@"
  check_tools
  STARTED_S=$(($(now_ms) / 1000))
  trap clean_up EXIT
  trap 'exit 1' INT TERM
  WORK=$(mktemp -d "$WORK_BASE/barid-backlog.XXXXXX")
  note "empty queue"
  measure_empty
  note "fill"
  fill
  note "restart after SIGKILL"
  revive killed KILL
  note "dead again"
  die_again
  note "restart after SIGTERM"
  revive stopped TERM
  note "drain"
  drain
  judge_arrivals
  judge_memory
  note "done"
  [[ $FAILED == no ]]
}

main "$@"
