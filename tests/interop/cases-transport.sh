# The case of outgoing TLS: DANE, MTA-STS and settings for domains, in a network with a signed DNS. Sourced.
# shellcheck shell=bash

CASES+=(
  "transport-policies transport_policies 127.0.0.53"
  "transport-policies-careless-resolver transport_policies 127.0.0.54"
  "transport-lying-resolver transport_lies"
)

readonly TRANSPORT=$HERE/transport

# transport_policies RESOLVER: one that validates, or one that leaves that to Barid.
# That the table in transport/situations.py is right, by Postfix's word; and that Barid does what it says: when the
# world is new to it, and again when some of it has changed and Barid has been started anew, which keeps policies.
transport_policies() {
  # nothing is written beside the sources
  export PYTHONDONTWRITEBYTECODE=1
  world_needs
  world_start
  judged postfix.py finger
  barid_configured "$1"
  barid_in_world
  mail_judged first
  barid_stop
  world_moves_on
  barid_in_world
  mail_judged later
}

# transport_lies: that Barid believes nothing of what is said between it and its resolver.
transport_lies() {
  export PYTHONDONTWRITEBYTECODE=1
  world_needs
  world_start
  start liar nsenter --target "$WORLD_PID" --net --mount \
    /usr/bin/python3 "$TRANSPORT/liar.py" serve 127.0.0.60 127.0.0.54
  barid_configured 127.0.0.60
  barid_in_world
  on_world /usr/bin/python3 "$TRANSPORT/liar.py" judge "$BIN_DIR/barid" "$CASE_DIR/barid.toml" 2>"$CASE_DIR/wrong" ||
    fail "$(paste -sd';' "$CASE_DIR/wrong")"
  barid_stop
}

world_needs() {
  deploy_needs unbound=unbound dnssec-signzone=bind9-utils dig=bind9-dnsutils nginx=nginx-light \
    mta-sts-daemon=postfix-mta-sts-resolver ip=iproute2
  /usr/bin/python3 -c 'import aiosmtpd, cryptography, dns.message' || {
    apt_get update &&
      apt_get install -y --no-install-recommends python3-aiosmtpd python3-cryptography python3-dnspython
  } || fail "cannot get aiosmtpd, cryptography and dnspython"
}

world_start() {
  start world env WORK="$WORK" "$TRANSPORT/world" --dir "$CASE_DIR/world" --serve
  WORLD_PID=$PID
  wait_for "the world" world_is_ready
}

world_is_ready() {
  [[ -e $CASE_DIR/world/ready ]] && return
  kill -0 "$WORLD_PID" || fail "there is no world: $(tail -n 1 "$CASE_DIR/world.log")"
  return 1
}

on_world() { nsenter --target "$WORLD_PID" --net --mount "$@"; }

# judged SCRIPT ARGUMENTS...: what it finds wrong fails the case.
judged() {
  local wrong=$CASE_DIR/wrong
  MAIL_CONFIG=$CASE_DIR/world/postfix-sender/etc on_world /usr/bin/python3 "$TRANSPORT/$1" "${@:2}" 2>"$wrong" ||
    fail "$(paste -sd';' "$wrong")"
}

# barid_configured RESOLVER: each message has a connection of its own, and what was put off stays so. Sets BARID_PORT.
barid_configured() {
  BARID_PORT=2500
  {
    cat <<TOML
hostname = "barid.interop.test"
data_dir = "$CASE_DIR/data"
[[listener]]
role = "relay"
address = "127.0.0.1:$BARID_PORT"
[[client]]
name = "apps"
networks = ["127.0.0.1/32"]
sender_domains = ["sender.test"]
[dns]
servers = ["$1:53"]
trust_anchor = "$CASE_DIR/world/anchor"
[delivery]
retry = ["1h"]
messages_per_connection = 1
[tls]
extra_ca = ["$CASE_DIR/world/ca.pem"]
TOML
    /usr/bin/python3 "$TRANSPORT/barid.py" settings "$CASE_DIR/world"
  } >"$CASE_DIR/barid.toml"
  "$BIN_DIR/barid" config check --config "$CASE_DIR/barid.toml" || fail "the configuration has faults"
}

# Sets BARID_PID.
barid_in_world() {
  start barid nsenter --target "$WORLD_PID" --net --mount "$BIN_DIR/barid" serve --config "$CASE_DIR/barid.toml"
  BARID_PID=$PID
  wait_for "Barid's listener" is_listening_there "127.0.0.1:$BARID_PORT"
}

is_listening_there() { on_world bash -c "exec 3<>/dev/tcp/${1/://}" 2>/dev/null; }

# mail_judged STAGE
mail_judged() {
  judged barid.py send "$BARID_PORT" "$1"
  judged postfix.py send 2525 "$CASE_DIR/world/postfix-sender/mail.log" "$1"
  judged barid.py judge "$CASE_DIR/world" "$CASE_DIR/barid.log" "$1"
}

# Certificates, policies and their records change.
world_moves_on() {
  ln -sfn later "$CASE_DIR/world/now"
  kill -HUP "$(<"$CASE_DIR/world/nsd.pid")" "$(<"$CASE_DIR/world/nginx.pid")"
  wait_for "changed records" dns_has_moved_on
  wait_for "a policy server to be gone" policy_server_is_gone
}

# For both resolvers: each may still know what it has been told.
dns_has_moved_on() {
  local at
  for at in 127.0.0.53 127.0.0.54; do
    [[ $(ask_world TXT _mta-sts.sts-then-none "$at") == *id=2* ]] || return 1
    [[ $(ask_world TXT _mta-sts.sts-from-nothing "$at") == *id=1* ]] || return 1
    [[ -z $(ask_world TXT _mta-sts.sts-then-no-txt "$at") ]] || return 1
  done
}

policy_server_is_gone() { ! is_listening_there "$(ask_world A mta-sts.sts-then-gone):443"; }

# ask_world TYPE LABELS [RESOLVER]
ask_world() { on_world dig +short "@${3-127.0.0.53}" "$1" "$2.unsigned.test"; }
