# Pebble, an ACME server for tests that forgets all when it ends, and the DNS by which it finds who asks it. Sourced.
# shellcheck shell=bash

PEBBLE_PID=
PEBBLE_PORT=
CHALLENGE_PORT= # where it looks for what it has demanded

readonly KEY_OPTIONS=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

# An authority of the case, in ca.pem and ca.key.
make_authority() {
  openssl req -x509 "${KEY_OPTIONS[@]}" -days 2 -subj "/CN=Interop CA" -addext keyUsage=critical,keyCertSign \
    -keyout "$CASE_DIR/ca.key" -out "$CASE_DIR/ca.pem" || fail "openssl makes no authority"
}

# certify FILE NAME: signed by that authority, for a name such as DNS:mx.interop.test, in FILE.pem and FILE.key.
certify() {
  openssl req -x509 "${KEY_OPTIONS[@]}" -days 2 -subj "/CN=$1" -CA "$CASE_DIR/ca.pem" -CAkey "$CASE_DIR/ca.key" \
    -addext "subjectAltName=$2" -addext basicConstraints=critical,CA:FALSE \
    -keyout "$CASE_DIR/$1.key" -out "$CASE_DIR/$1.pem" || fail "openssl certifies nothing"
}

# Ports, Pebble's own certificate, and a DNS in which every name leads to 127.0.0.1.
pebble_prepare() {
  deploy_needs pebble=pebble pebble-challtestsrv=pebble
  free_port PEBBLE_PORT
  free_port PEBBLE_ADMIN_PORT
  free_port CHALLENGE_PORT
  free_port PEBBLE_DNS_PORT
  free_port PEBBLE_DNS_ADMIN_PORT
  make_authority
  certify pebble IP:127.0.0.1
  start pebble-dns pebble-challtestsrv -dns01 "127.0.0.1:$PEBBLE_DNS_PORT" -http01 "" -https01 "" -tlsalpn01 "" \
    -management "127.0.0.1:$PEBBLE_DNS_ADMIN_PORT" -defaultIPv4 127.0.0.1 -defaultIPv6 ""
  wait_for "Pebble's DNS" is_listening "127.0.0.1:$PEBBLE_DNS_PORT"
  wait_for "the control of Pebble's DNS" is_listening "127.0.0.1:$PEBBLE_DNS_ADMIN_PORT"
}

# pebble_start LIFE_S [PERCENT]: certificates live so long, and so many good nonces are refused. The root by which
# they are judged is in root.pem, and another one each time.
pebble_start() {
  cat >"$CASE_DIR/pebble.json" <<JSON
{
  "pebble": {
    "listenAddress": "127.0.0.1:$PEBBLE_PORT",
    "managementListenAddress": "127.0.0.1:$PEBBLE_ADMIN_PORT",
    "certificate": "$CASE_DIR/pebble.pem",
    "privateKey": "$CASE_DIR/pebble.key",
    "httpPort": $CHALLENGE_PORT,
    "tlsPort": 0,
    "certificateValidityPeriod": $1
  }
}
JSON
  start pebble env PEBBLE_VA_NOSLEEP=1 PEBBLE_AUTHZREUSE=0 PEBBLE_WFE_NONCEREJECT="${2-0}" \
    pebble -config "$CASE_DIR/pebble.json" -dnsserver "127.0.0.1:$PEBBLE_DNS_PORT"
  PEBBLE_PID=$PID
  wait_for "Pebble" is_listening "127.0.0.1:$PEBBLE_PORT"
  wait_for "Pebble's root" pebble_root
}

pebble_root() {
  curl -fsS --max-time 5 --cacert "$CASE_DIR/ca.pem" -o "$CASE_DIR/root.pem" \
    "https://127.0.0.1:$PEBBLE_ADMIN_PORT/roots/0"
}

pebble_forgets() {
  stop "$PEBBLE_PID" || true
  pebble_start "$@"
}

# pebble_said TEXT: how many lines of its log have it.
pebble_said() { grep -cF "$1" "$CASE_DIR/pebble.log" || true; }

# leads_to NAME [ADDRESS]: what Pebble's DNS says from now on, or again what it says of all names.
leads_to() {
  local path=clear-a addresses=
  [[ -z ${2-} ]] || path=add-a addresses=", \"addresses\": [\"$2\"]"
  curl -fsS --max-time 5 -d "{\"host\": \"$1\"$addresses}" "http://127.0.0.1:$PEBBLE_DNS_ADMIN_PORT/$path" ||
    fail "Pebble's DNS is not told where $1 is"
}
