#!/usr/bin/env bash
#
# compare-postfix.sh: the same mail through Debian's Postfix and through Barid.
#
#   sudo loadtest/compare-postfix.sh [options]
#
#   --rounds N        rounds, the servers taking turns in each (default 3)
#   --scenario NAME   only this one; repeatable (default: all, see below)
#   --server NAME     only this one; repeatable: postfix-default, postfix-tuned,
#                     barid (default: all)
#   --quick           a tenth of the messages, one round, no postfix-default: shows
#                     that everything works; its figures are coarse
#   --json FILE       writes every raw figure there
#   --bin-dir DIR     barid, barid-load and barid-sink (default target/release,
#                     built with cargo if they are missing)
#   --work-dir DIR    where spools and data are made: a real disk, the same for
#                     both servers (default /var/tmp)
#   --keep            leaves the files of the last run there
#
# Needs root and Debian's packages postfix, iproute2, procps and jq, a cgroup
# hierarchy that counts CPU (v2, or cpuacct of v1), and a machine that does
# nothing else meanwhile. A full comparison takes about half an hour.
#
# Scenarios: 20,000 messages of 4 KiB over 50 sessions, 10 a connection, except
#   one-domain          all to one destination
#   many-domains        to 200 destinations, each on an MX host of its own
#   many-domains-tls    the same, and each offers STARTTLS (Postfix is not set up
#                       to use it: compare with Barid's many-domains)
#   large               2,000 messages of 256 KiB
#   accept-only         every destination is down: nobody listens there
#   one-per-connection  one message a connection
#   slow-network        every reply of a destination comes 20 ms late
#   signed              all to one destination, each signed with an RSA key (DKIM):
#                       Barid by itself, Postfix by OpenDKIM, which it counts with
#
# Each run has network, mount and process namespaces of its own: only loopback,
# a private resolv.conf, spool, data and log directory; the sink answers DNS.
# Both servers log to a file and sync as they are shipped to; Barid's metrics
# are scraped each second. postfix/default.cf and postfix/tuned.cf say how
# Postfix is set up. 1,000 messages (large: 200) go through before the measured
# ones, so that no server pays its start in the figures.
#
# Figures, the same way for every server:
#   relayed   messages / second from the start of the load until the last one
#             has arrived at its destination
#   accepted  messages / second as the load generator saw them accepted
#   cpu       CPU seconds per 1,000 messages, of all the server's processes,
#             ended ones included (cgroup), from the start of the load until the
#             last arrival and the quarter second after it in which the sink
#             looks out for duplicates (accept-only: until the last acceptance)
#   memory    proportional set size of all the server's processes, sampled each
#             second and at the end: the largest sample (the mean is kept too)
#
# Prints a table of the medians over the rounds, then lines
#   ratio SCENARIO METRIC VALUE
# of Barid against the better of the Postfix configurations, for each metric by
# itself; above 1 Barid is better, in every metric.
#
# Exits 1 if a run failed or a message was lost or damaged, 2 on wrong usage.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly SERVER_ADDRESS=127.0.0.1:2525
readonly RUN_TIMEOUT_S=600

ROUNDS=3
MESSAGE_DIVISOR=1
CHOSEN_SCENARIOS=()
CHOSEN_SERVERS=()
JSON_FILE=
BIN_DIR=$HERE/../target/release
WORK_BASE=/var/tmp
KEEP=no

WORK=     # everything this script writes, but for JSON_FILE
RUN=      # the files of the current run
FAILED=no # did any run fail?

die() {
  printf 'compare-postfix: %s\n' "$*" >&2
  exit 1
}

note() { printf '%s\n' "$*" >&2; }

# shellcheck source-path=SCRIPTDIR
source "$HERE/lib/clock.sh"
source "$HERE/lib/machine.sh"
source "$HERE/lib/sandbox.sh"
source "$HERE/lib/cgroup.sh"
source "$HERE/lib/postfix.sh"
source "$HERE/lib/barid.sh"
source "$HERE/lib/traffic.sh"
source "$HERE/lib/signing.sh"
source "$HERE/lib/probe.sh"
source "$HERE/lib/report.sh"
source "$HERE/lib/server.sh"

usage() {
  sed -n '3,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

wrong_usage() {
  printf 'compare-postfix: %s (--help tells more)\n' "$*" >&2
  exit 2
}

parse_arguments() {
  local quick=no
  while (($#)); do
    case $1 in
      --quick) quick=yes ;;
      --keep) KEEP=yes ;;
      --help | -h) usage && exit 0 ;;
      --rounds | --scenario | --server | --json | --bin-dir | --work-dir)
        (($# > 1)) || wrong_usage "$1 needs a value"
        parse_valued "$1" "$2"
        shift
        ;;
      *) wrong_usage "unknown argument $1" ;;
    esac
    shift
  done
  ((${#CHOSEN_SCENARIOS[@]})) || CHOSEN_SCENARIOS=("${SCENARIOS[@]}")
  if [[ $quick == yes ]]; then
    ROUNDS=1 MESSAGE_DIVISOR=10
    ((${#CHOSEN_SERVERS[@]})) || CHOSEN_SERVERS=(postfix-tuned barid)
  fi
  ((${#CHOSEN_SERVERS[@]})) || CHOSEN_SERVERS=(postfix-default postfix-tuned barid)
}

parse_valued() {
  case $1 in
    --rounds)
      [[ $2 =~ ^[1-9][0-9]*$ ]] || wrong_usage "--rounds needs a number from 1"
      ROUNDS=$2
      ;;
    --scenario)
      scenario_set "$2" || wrong_usage "--scenario is one of: ${SCENARIOS[*]}"
      CHOSEN_SCENARIOS+=("$2")
      ;;
    --server)
      [[ $2 =~ ^(postfix-default|postfix-tuned|barid)$ ]] ||
        wrong_usage "--server is one of: postfix-default postfix-tuned barid"
      CHOSEN_SERVERS+=("$2")
      ;;
    --json) JSON_FILE=$2 ;;
    --bin-dir) BIN_DIR=$2 ;;
    --work-dir) WORK_BASE=$2 ;;
  esac
}

# The steps of one run; on failure sets PROBLEM.
run_steps() {
  local server=$1
  PROBLEM="could not make the sandbox"
  mkdir -p "$RUN/root/etc" "$RUN/root/var/log" || return 1
  server_do prepare "$server" || return 1
  sandbox_open "$RUN/root" || return 1
  cgroup_open || return 1
  PROBLEM="the server did not start"
  server_do start "$server" || return 1
  wait_until 60 server_ready_or_dead "$server" || return 1
  server_do alive "$server" || return 1
  PROBLEM="the warm-up failed"
  warm_up || return 1
  PROBLEM="the sink did not start"
  sink_start || return 1
  PROBLEM="not every message was accepted"
  stamp "$RUN/start"
  probe_start "$server"
  load_start
  load_wait || return 1
  PROBLEM="not every message arrived"
  if [[ $RELAYS == yes ]]; then sink_wait || return 1; fi
  PROBLEM=
}

# Ends everything of the current run; safe to call at any time.
run_end() {
  probe_stop
  traffic_stop
  cgroup_stop
  sandbox_close
  cgroup_close
}

# run_once SERVER SCENARIO ROUND
run_once() {
  PROBLEM=
  RUN=$WORK/run
  rm -rf "$RUN"
  mkdir "$RUN"
  sync --file-system "$WORK" # no leftovers of the run before
  scenario_set "$2"
  note "== $2, round $3 of $ROUNDS: $1"
  run_steps "$1" || true
  run_end
  record_run "$1" "$2" "$3" "$PROBLEM"
}

# Prints the order of the servers in ROUND: each goes first in turn.
turn_order() {
  local count=${#CHOSEN_SERVERS[@]} i
  for ((i = 0; i < count; i++)); do
    printf '%s\n' "${CHOSEN_SERVERS[(i + $1 - 1) % count]}"
  done
}

clean_up() {
  run_end
  if [[ $KEEP == yes ]]; then
    note "files of the last run: $WORK"
  elif [[ $WORK ]]; then
    rm -rf "$WORK"
  fi
}

main() {
  local scenario round server
  parse_arguments "$@"
  check_machine
  check_binaries
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  WORK=$(mktemp --directory --tmpdir="$WORK_BASE" barid-compare.XXXXXX)
  for scenario in "${CHOSEN_SCENARIOS[@]}"; do
    for ((round = 1; round <= ROUNDS; round++)); do
      for server in $(turn_order "$round"); do
        run_once "$server" "$scenario" "$round"
      done
    done
  done
  report
  [[ $FAILED == no ]] || die "not every run was clean, see above"
}

main "$@"
