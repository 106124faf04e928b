# Relay, sink and load of the backlog measurement. Sourced.
# shellcheck shell=bash
#
# All addresses are loopback ones that no default configuration uses. A dead
# destination is one whose MX the DNS names, while nobody listens there: the
# sink then listens on another port and only answers DNS.

readonly RELAY_ADDRESS=127.0.9.1:2525
readonly ADMIN_ADDRESS=127.0.9.1:8025
readonly DNS_ADDRESS=127.0.9.1:5353
readonly SINK_FIRST_ADDRESS=127.9.1.1
readonly SINK_ADDRESSES_MAX=250
readonly MX_PORT=2526
readonly UNUSED_PORT=2527

BARID_PID=
SINK_PID=
LOAD_PID=

# relay_prepare: a configuration and an empty data directory.
relay_prepare() {
  rm -rf "$WORK/data"
  mkdir -p "$WORK/data"
  cat >"$WORK/barid.toml" <<TOML
hostname = "relay.example.org"
data_dir = "$WORK/data"

[[listener]]
role = "relay"
address = "$RELAY_ADDRESS"

[[listener]]
role = "admin"
address = "$ADMIN_ADDRESS"

[[client]]
name = "apps"
networks = ["127.0.0.0/8"]
sender_domains = ["*"]

[dns]
servers = ["$DNS_ADDRESS"]
# its zones are not signed, and it starts after the relay
dnssec = false

[delivery]
port = $MX_PORT
allow_loopback = true
TOML
}

# relay_start LIFE: runs the relay; LIFE names its log and its memory samples.
relay_start() {
  "$BIN_DIR/barid" serve --config "$WORK/barid.toml" >"$WORK/barid-$1.log" 2>&1 &
  BARID_PID=$!
  rss_watch "$BARID_PID" "$WORK/rss-$1"
}

# relay_end SIGNAL: ends it and waits until it is gone.
relay_end() {
  kill "-$1" "$BARID_PID" 2>/dev/null || true
  wait "$BARID_PID" 2>/dev/null || true
  BARID_PID=
  rss_unwatch
}

relay_is_alive() { kill -0 "$BARID_PID" 2>/dev/null; }

# answers ADDRESS: does anybody listen there?
answers() { (: <>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

relay_wait_ready() {
  wait_until 600 answers "$ADMIN_ADDRESS" || die "the relay did not start; see $WORK"
}

# relay_metric NAME: prints a metric without labels; nothing if there is none.
relay_metric() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  timeout 5 bash -c '
    exec 3<>"/dev/tcp/${1%:*}/${1##*:}"
    printf "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" >&3
    cat <&3' get "$ADMIN_ADDRESS" 2>/dev/null |
    awk -v name="$1" '$1 == name { printf "%d\n", $2 }' || true
}

# sink_start NAME PORT [OPTION...]: DNS for the domains, and mail hosts at PORT.
sink_start() {
  local name=$1 port=$2 addresses=$((DOMAINS < SINK_ADDRESSES_MAX ? DOMAINS : SINK_ADDRESSES_MAX))
  shift 2
  "$BIN_DIR/barid-sink" --json --listen "$SINK_FIRST_ADDRESS:$port" --addresses "$addresses" \
    --dns "$DNS_ADDRESS" --domains "$DOMAINS" --ledger "$WORK/sink-$name.ledger" "$@" \
    >"$WORK/sink-$name.json" 2>"$WORK/sink-$name.log" &
  SINK_PID=$!
  wait_until 10 answers "$SINK_FIRST_ADDRESS:$port" || die "the sink did not start; see $WORK"
  wait_until 10 grep -q '^dns ' "$WORK/sink-$name.log" || die "the DNS did not start; see $WORK"
}

sink_end() {
  kill -TERM "$SINK_PID" 2>/dev/null || true
  wait "$SINK_PID" || true # its judgement of its own arrivals is not asked
  SINK_PID=
}

# load_run NAME MESSAGES: sends so many and waits until all are accepted.
load_run() {
  "$BIN_DIR/barid-load" --json --target "$RELAY_ADDRESS" --sessions "$SESSIONS" --messages "$2" \
    --size "$MESSAGE_BYTES" --domains "$DOMAINS" --per-connection "$PER_CONNECTION" \
    --ledger "$WORK/load-$1.ledger" >"$WORK/load-$1.json" 2>"$WORK/load-$1.log" &
  LOAD_PID=$!
  wait "$LOAD_PID" || die "the load failed; see $WORK"
  LOAD_PID=
  [[ $(jq -r .accepted "$WORK/load-$1.json") == "$2" ]] || die "not all was accepted; see $WORK"
}

# servers_end: ends what still runs, whatever happened.
servers_end() {
  local pid
  for pid in $LOAD_PID $SINK_PID $BARID_PID; do
    kill -KILL "$pid" 2>/dev/null || true
  done
  rss_unwatch
}
