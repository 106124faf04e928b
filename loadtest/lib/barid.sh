# Barid as the server under test. Sourced.
# shellcheck shell=bash

readonly BARID_ADMIN_PORT=8025

BARID_PID= # of the namespace prefix around it, which ends with it

barid_version() { "$BIN_DIR/barid" --version; }

# barid_prepare ROOT: writes its configuration and makes its data directory.
barid_prepare() {
  mkdir -p "$1/data"
  cat >"$1/barid.toml" <<TOML
hostname = "relay.example.org"
data_dir = "$1/data"

[[listener]]
role = "relay"
address = "$SERVER_ADDRESS"

[[listener]]
role = "admin"
address = "127.0.0.1:$BARID_ADMIN_PORT"

[[client]]
name = "apps"
networks = ["127.0.0.0/8", "::1/128"]
sender_domains = ["*"]

[dns]
servers = ["127.0.0.1:53"]

[delivery]
port = 25
allow_loopback = true
retry = ["5m", "15m", "1h", "4h"]
expire_after = "5d"
# as many as the tuned Postfix may open
connections_per_site = 200
TOML
  if [[ ${SIGNED-no} == yes ]]; then barid_signs "$1"; fi
}

# barid_start ROOT: runs it in the background, inside sandbox and cgroup.
barid_start() {
  "${IN_SANDBOX[@]}" "${CGROUP_JOIN[@]}" "$CGROUP" \
    "$BIN_DIR/barid" serve --config "$1/barid.toml" >"$1/var/log/barid.log" 2>&1 &
  BARID_PID=$!
}

barid_alive() { kill -0 "$BARID_PID" 2>/dev/null; }

barid_ready() {
  [[ $(barid_get /healthz 2>/dev/null) == 'HTTP/1.1 200'* ]]
}

# barid_get PATH: prints the admin listener's whole answer.
barid_get() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  "${IN_NET[@]}" timeout 5 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n" "$2" "$1" >&3
    cat <&3' get "$BARID_ADMIN_PORT" "$1"
}
