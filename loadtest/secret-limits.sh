#!/usr/bin/env bash
#
# secret-limits.sh: how Barid and Postfix get on with a destination that does
# not say how much it takes.
#
#   sudo loadtest/secret-limits.sh [options]
#
#   --server NAME      barid, postfix-default or postfix-tuned (default: barid)
#   --connections N    that the destination takes at once (default 7)
#   --rate N           messages a second that it takes (default 30)
#   --messages N       handed over at the start (default 12000)
#   --limit N          seconds after which it is over (default 600)
#   --bin-dir DIR      barid, barid-load and barid-sink (default target/release)
#   --work-dir DIR     where spools and data are made (default /var/tmp)
#
# Needs what compare-postfix.sh needs. The destination, a sink on loopback with
# real sockets, answers 421 to a connection or a MAIL beyond its limits; its
# bucket holds what one second allows. All mail is handed over at once, and the
# relay is left alone. Prints, and judges for Barid:
#
#   secret-limits SERVER per_second VALUE   arrivals a second from the second
#       minute to the sixth: at least 85 % of what the destination takes
#   secret-limits SERVER refused VALUE      of all attempts in that time, the
#       share that was answered with 421: below 5 %
#   secret-limits SERVER arrived VALUE      messages, of those handed over: all
#   secret-limits SERVER seconds VALUE      until the last of them
#
# Exits 1 if a figure misses its goal or the run failed, 2 on wrong usage.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly SERVER_ADDRESS=127.0.0.1:2525
readonly FROM_S=120 TO_S=360
readonly RATE_GOAL=0.85 REFUSED_GOAL=0.05
MESSAGE_DIVISOR=1
RUN_TIMEOUT_S=600

CHOSEN_SERVERS=(barid)
SECRET_CONNECTIONS=7
SECRET_RATE=30
LETTERS=12000
BIN_DIR=$HERE/../target/release
WORK_BASE=/var/tmp
WORK=
RUN=
FAILED=no

die() {
  printf 'secret-limits: %s\n' "$*" >&2
  exit 1
}

wrong_usage() {
  printf 'secret-limits: %s (--help tells more)\n' "$*" >&2
  exit 2
}

# shellcheck source-path=SCRIPTDIR
source "$HERE/lib/clock.sh"
source "$HERE/lib/machine.sh"
source "$HERE/lib/sandbox.sh"
source "$HERE/lib/cgroup.sh"
source "$HERE/lib/postfix.sh"
source "$HERE/lib/barid.sh"
source "$HERE/lib/traffic.sh"
source "$HERE/lib/server.sh"

usage() { sed -n '3,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

parse_arguments() {
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --server)
        [[ ${2-} =~ ^(postfix-default|postfix-tuned|barid)$ ]] || wrong_usage "no such server: ${2-}"
        CHOSEN_SERVERS=("$2")
        ;;
      --connections | --rate | --messages | --limit)
        [[ ${2-} =~ ^[1-9][0-9]*$ ]] || wrong_usage "$1 needs a number from 1"
        parse_number "$1" "$2"
        ;;
      --bin-dir) BIN_DIR=${2-} ;;
      --work-dir) WORK_BASE=${2-} ;;
      *) wrong_usage "unknown argument $1" ;;
    esac
    shift 2
  done
}

parse_number() {
  case $1 in
    --connections) SECRET_CONNECTIONS=$2 ;;
    --rate) SECRET_RATE=$2 ;;
    --messages) LETTERS=$2 ;;
    --limit) RUN_TIMEOUT_S=$2 ;;
  esac
}

# The destination with its limits; over when all has arrived or time is up.
strict_sink_start() {
  watch sink $((RUN_TIMEOUT_S + 30)) "$BIN_DIR/barid-sink" --json \
    --listen "$SINK_FIRST_ADDRESS:25" --max-connections "$SECRET_CONNECTIONS" \
    --rate "$SECRET_RATE/s" --timeline "$RUN/timeline" --dns 127.0.0.1:53 --domains 1 \
    --expect "$LETTERS" --timeout "${RUN_TIMEOUT_S}s" --compare "$RUN/load.ledger" &
  SINK_WATCHER=$!
  wait_until 10 sandbox_listens udp 127.0.0.1:53
}

run() {
  local server=$1
  mkdir -p "$RUN/root/etc" "$RUN/root/var/log"
  server_do prepare "$server"
  sandbox_open "$RUN/root" || die "could not make the sandbox"
  cgroup_open || die "could not make the cgroup"
  server_do start "$server"
  wait_until 60 server_ready_or_dead "$server" && server_do alive "$server" || die "the server did not start"
  scenario_set one-domain
  MESSAGES=$LETTERS
  strict_sink_start || die "the sink did not start"
  load_start
  load_wait || die "not every message was accepted"
  sink_wait || true
}

# figure NAME VALUE [GOAL]: GOAL is an expression of awk in v.
figure() {
  local judgement=
  if [[ ${3-} && ${CHOSEN_SERVERS[0]} == barid ]]; then
    judgement=" PASS"
    awk -v v="$2" "BEGIN { exit !($3) }" || { judgement=" FAIL (goal: $3)" && FAILED=yes; }
  fi
  printf 'secret-limits %s %s %s%s\n' "${CHOSEN_SERVERS[0]}" "$1" "$2" "$judgement"
}

judge() {
  local figures
  figures=$(awk -v from="$FROM_S" -v to="$TO_S" '
    $1 == from { received = $2; refused = $3 }
    $1 == to {
      received = $2 - received; refused = $3 - refused
      printf "%.2f %.4f\n", received / (to - from), received + refused ? refused / (received + refused) : 0
      exit
    }' "$RUN/timeline")
  [[ $figures ]] || die "it was over before second $TO_S"
  figure per_second "${figures% *}" "v >= $RATE_GOAL * $SECRET_RATE"
  figure refused "${figures#* }" "v < $REFUSED_GOAL"
  figure arrived "$(jq -r .distinct "$RUN/sink.json")" "v == $LETTERS"
  figure seconds "$(awk -v all="$LETTERS" '{ last = $1 } $2 >= all { exit } END { print last }' "$RUN/timeline")"
}

run_end() {
  traffic_stop
  cgroup_stop
  sandbox_close
  cgroup_close
}

clean_up() {
  run_end
  if [[ $WORK ]]; then rm -rf "$WORK"; fi
}

main() {
  parse_arguments "$@"
  check_machine
  check_binaries
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  WORK=$(mktemp --directory --tmpdir="$WORK_BASE" barid-secret.XXXXXX)
  RUN=$WORK/run
  run "${CHOSEN_SERVERS[0]}"
  judge
  [[ $FAILED == no ]]
}

main "$@"
