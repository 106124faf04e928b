# The traffic of one run: scenario parameters, load generator, sink. Sourced.
# shellcheck shell=bash
#
# Both tools share the sandbox with the server but not its cgroup. Each is
# watched by a subshell that notes, the moment the tool ends, the time and the
# CPU the server has used by then ("TIME_MS CPU_US" in NAME.end).

readonly SCENARIOS=(one-domain many-domains many-domains-tls large accept-only one-per-connection slow-network signed)
readonly SINK_FIRST_ADDRESS=127.0.2.1
readonly UNUSED_PORT=2526

readonly SESSIONS=50

MESSAGES=
MESSAGE_BYTES=
DOMAINS=
PER_CONNECTION=
LATENCY_MS=
RELAYS=
TLS=
SIGNED=
WARM_UP_MESSAGES=

LOAD_WATCHER=
SINK_WATCHER=

# scenario_set NAME: sets the parameters; fails for an unknown name.
scenario_set() {
  MESSAGES=20000 MESSAGE_BYTES=4096 DOMAINS=1 PER_CONNECTION=10 LATENCY_MS=0 RELAYS=yes TLS=no SIGNED=no
  WARM_UP_MESSAGES=1000
  case $1 in
    one-domain) ;;
    many-domains) DOMAINS=200 ;;
    many-domains-tls) DOMAINS=200 TLS=yes ;;
    large) MESSAGES=2000 MESSAGE_BYTES=262144 WARM_UP_MESSAGES=200 ;;
    accept-only) RELAYS=no ;;
    one-per-connection) PER_CONNECTION=1 ;;
    slow-network) LATENCY_MS=20 ;;
    signed) SIGNED=yes ;;
    *) return 1 ;;
  esac
  MESSAGES=$((MESSAGES / MESSAGE_DIVISOR))
}

# stamp FILE: notes the time and the CPU used so far.
stamp() { printf '%s %s\n' "$(now_ms)" "$(cgroup_cpu_us)" >"$1"; }

# watch NAME SECONDS COMMAND...: runs COMMAND in the sandbox, for SECONDS at
# most, with its output in NAME.json and NAME.log; passes a SIGTERM on to it;
# stamps its end.
watch() {
  local name=$1 limit=$2 tool code=0
  shift 2
  "${IN_NET[@]}" --pid timeout "$limit" "$@" >"$RUN/$name.json" 2>"$RUN/$name.log" &
  tool=$!
  # the child of nsenter is timeout, which passes the signal on
  trap 'pkill --signal TERM --parent "$tool" || true' TERM
  wait "$tool" || code=$?
  while kill -0 "$tool" 2>/dev/null; do # a signal only ended the wait
    code=0
    wait "$tool" || code=$?
  done
  stamp "$RUN/$name.end"
  exit "$code"
}

# Starts the sink: DNS and the MX hosts. Destinations that are down have their
# MX hosts in DNS too, but nobody listens on the port of mail there.
sink_start() {
  local port=25 expect=(--expect "$MESSAGES" --timeout "${RUN_TIMEOUT_S}s" --compare "$RUN/load.ledger")
  if [[ $RELAYS == no ]]; then port=$UNUSED_PORT expect=(); fi
  if [[ $TLS == yes ]]; then expect+=(--tls); fi
  watch sink $((RUN_TIMEOUT_S + 30)) "$BIN_DIR/barid-sink" --json \
    --listen "$SINK_FIRST_ADDRESS:$port" --addresses "$DOMAINS" --latency "${LATENCY_MS}ms" \
    --dns 127.0.0.1:53 --domains "$DOMAINS" --ledger "$RUN/sink.ledger" "${expect[@]}" &
  SINK_WATCHER=$!
  wait_until 10 sandbox_listens udp 127.0.0.1:53 &&
    wait_until 10 sandbox_listens tcp "$SINK_FIRST_ADDRESS:$port"
}

load_start() {
  watch load "$RUN_TIMEOUT_S" "$BIN_DIR/barid-load" \
    --target "$SERVER_ADDRESS" --sessions "$SESSIONS" --messages "$MESSAGES" \
    --size "$MESSAGE_BYTES" --domains "$DOMAINS" --per-connection "$PER_CONNECTION" \
    --ledger "$RUN/load.ledger" --json &
  LOAD_WATCHER=$!
}

# Waits for the end of the load; fails if a message was not accepted.
load_wait() {
  local code=0
  wait "$LOAD_WATCHER" || code=$?
  LOAD_WATCHER=
  ((code == 0)) && [[ $(jq -r .accepted "$RUN/load.json") == "$MESSAGES" ]]
}

# Waits until the last message has arrived, or the sink gives up.
sink_wait() {
  local code=0
  wait "$SINK_WATCHER" || code=$?
  SINK_WATCHER=
  return "$code"
}

# Ends what still runs; the sink writes its summary first.
traffic_stop() {
  local watcher
  for watcher in $LOAD_WATCHER $SINK_WATCHER; do
    kill -TERM "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
  done
  LOAD_WATCHER='' SINK_WATCHER=''
}

# Sends a few messages all the way before anything is measured, so that no
# server pays its start (processes, buffers, lookups) in the figures.
warm_up() {
  local MESSAGES=$WARM_UP_MESSAGES RELAYS=yes
  sink_start || return 1
  load_start
  load_wait && sink_wait || return 1
  mkdir "$RUN/warm-up"
  mv "$RUN"/load.* "$RUN"/sink.* "$RUN/warm-up/"
}

# Does the server under test greet?
smtp_greets() {
  local greeting
  # shellcheck disable=SC2016 # expanded by the inner shell
  greeting=$("${IN_NET[@]}" timeout 5 bash -c '
    exec 3<>"/dev/tcp/${1%:*}/${1##*:}" && IFS= read -r line <&3 && echo "$line"
    printf "QUIT\r\n" >&3' greet "$SERVER_ADDRESS" 2>/dev/null) || return 1
  [[ $greeting == 220* ]]
}
