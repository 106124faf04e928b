# Cases about proxies in front of Barid (PROXY protocol, version 2). Sourced.
#
# The proxy is 127.0.0.3; 127.0.0.1 is a client, 127.0.0.2 is nobody.
# shellcheck shell=bash

LATER+=(
  "proxy-swaks proxy_swaks"
  "proxy-swaks-not-a-client proxy_swaks_refused 127.0.0.2 127.0.0.3"
  "proxy-swaks-not-a-proxy proxy_swaks_refused 127.0.0.1 127.0.0.2"
  "proxy-haproxy proxy_haproxy"
  "proxy-haproxy-not-a-client proxy_haproxy_refused"
)

# A sink, and a Barid with a listener for the proxy.
barid_and_proxies() {
  free_port PROXIED_PORT
  barid_and_sink plain "[[listener]]
role = \"relay\"
address = \"127.0.0.1:$PROXIED_PORT\"
proxies = [\"127.0.0.3/32\"]"
  # the listener that swaks_send is to use
  BARID_PORT=$PROXIED_PORT
}

# swaks_proxied SOURCE PROXY: says from PROXY that SOURCE is behind it.
swaks_proxied() {
  swaks_send sender@sender.test someone@sink.test --local-interface "$2" --proxy-version 2 --proxy-command PROXY \
    --proxy-family AF_INET --proxy-protocol STREAM --proxy-source "$1" --proxy-source-port 40000 \
    --proxy-dest 127.0.0.1 --proxy-dest-port 25
}

proxy_swaks() {
  barid_and_proxies
  swaks_proxied 127.0.0.1 127.0.0.3
  sent_by 127.0.0.1
}

# sent_by ADDRESS: the message arrives, and the trace field names the client, not the proxy.
sent_by() {
  arrived "$SINK" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  expect_match "the trace field" "$(py received "${MESSAGES[0]}" barid)" "\\(\\[${1//./\\.}\\]\\) by barid\\.interop\\.test"
}

proxy_swaks_refused() {
  local status=0
  barid_and_proxies
  swaks_proxied "$@" || status=$?
  ((status > 0)) || fail "the mail was taken"
  expect "accepted messages" "$(metric barid_accepted_messages_total)" 0
}

# haproxy between swaks and Barid, which it also asks whether it lives, in a connection of its own.
barid_and_haproxy() {
  barid_and_proxies
  free_port HAPROXY_PORT
  cat >"$CASE_DIR/haproxy.cfg" <<CF
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen smtp
  bind 127.0.0.1:$HAPROXY_PORT
  source 127.0.0.3
  option tcp-check
  tcp-check connect send-proxy
  # the proxy itself is no client, and may hear so
  tcp-check expect rstring ^[25]
  server barid 127.0.0.1:$PROXIED_PORT check inter 300ms send-proxy-v2 check-send-proxy
CF
  start haproxy haproxy -db -f "$CASE_DIR/haproxy.cfg"
  BARID_PORT=$HAPROXY_PORT
  wait_for "haproxy" is_listening "127.0.0.1:$HAPROXY_PORT"
}

proxy_haproxy() {
  barid_and_haproxy
  swaks_send sender@sender.test someone@sink.test
  sent_by 127.0.0.1
  if grep -q 'is DOWN' "$CASE_DIR/haproxy.log"; then fail "haproxy: $(grep -m1 'is DOWN' "$CASE_DIR/haproxy.log")"; fi
}

proxy_haproxy_refused() {
  local status=0
  barid_and_haproxy
  swaks_send sender@sender.test someone@sink.test --local-interface 127.0.0.2 || status=$?
  expect "swaks' exit status" "$status" 21
  expect "accepted messages" "$(metric barid_accepted_messages_total)" 0
}
