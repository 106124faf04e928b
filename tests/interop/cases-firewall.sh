# The case of the firewall: the rules of deploy/nftables in a kernel. Sourced.
# shellcheck shell=bash

CASES+=("deploy-firewall firewall")

# The rules in a kernel: a relay's network namespace, and one from which an office and strangers connect.
firewall() {
  deploy_needs nft=nftables ip=iproute2
  foreign_users "$CASE_DIR" barid
  start_apart relay "$CASE_DIR" "exec unshare --net sleep infinity"
  RELAY=$PID
  start clients unshare --net sleep infinity
  CLIENTS=$PID
  wait_for "the namespaces" have_own_networks "$RELAY" "$CLIENTS"
  firewall_wires
  on_relay nft -c -f "$DEPLOY/nftables/barid.nft" || fail "nft finds faults"
  # twice: it replaces itself
  on_relay nft -f "$DEPLOY/nftables/barid.nft"
  on_relay nft -f "$DEPLOY/nftables/barid.nft"
  # not by the functions: their shells would end, and leave the listeners
  start listeners nsenter --target "$RELAY" --mount --net python3 "$HERE/reach.py" listen 22 25 8025
  start remote nsenter --target "$CLIENTS" --net python3 "$HERE/reach.py" listen 25 587
  wait_for "the relay's listeners" reaches open on_relay 127.0.0.1 127.0.0.1 8025
  wait_for "the remote server" reaches open on_clients 127.0.0.1 127.0.0.1 587
  firewall_inward
  firewall_outward
  firewall_floods
}

have_own_networks() {
  local pid
  for pid; do
    [[ $(readlink "/proc/$pid/ns/net") != "$(readlink /proc/self/ns/net)" ]] || return 1
    [[ $(cat "/proc/$pid/comm") == sleep ]] || return 1
  done
}

on_relay() { nsenter --target "$RELAY" --mount --net "$@"; }
on_clients() { nsenter --target "$CLIENTS" --net "$@"; }

# The office's PCs are 192.168.10.5 to 8, the stranger is 192.168.99.9; all of them are in namespaces of this case.
firewall_wires() {
  local address where
  # addresses serve at once
  for where in on_relay on_clients; do $where sysctl -qw net.ipv6.conf.default.accept_dad=0; done
  ip link add relay0 netns "$RELAY" type veth peer name clients0 netns "$CLIENTS"
  for address in 192.168.10.1/16 fd00:10::1/48; do on_relay ip address add "$address" dev relay0; done
  for address in 192.168.10.{5,6,7,8}/16 192.168.99.9/16 fd00:10::5/48 fd00:10:0:99::9/48; do
    on_clients ip address add "$address" dev clients0
  done
  on_relay ip link set lo up
  on_relay ip link set relay0 up
  on_clients ip link set lo up
  on_clients ip link set clients0 up
}

# outcome WANTED WHERE FROM TO PORT [USER]: prints what becomes of a connection.
outcome() {
  local seconds=10
  # long enough for a packet that is sent again
  [[ $1 != silent ]] || seconds=2.5
  "$2" python3 "$HERE/reach.py" connect "${@:3:3}" "$seconds" "${@:6}"
}

reaches() { [[ $(outcome "$@") == "$1" ]]; }

# reach WANTED WHERE FROM TO PORT [USER]
reach() { expect "the way from $3 to $4 port $5${6:+ for $6}" "$(outcome "$@")" "$1"; }

firewall_inward() {
  reach open on_clients 192.168.10.5 192.168.10.1 25
  reach open on_clients fd00:10::5 fd00:10::1 25
  reach silent on_clients 192.168.99.9 192.168.10.1 25
  reach silent on_clients fd00:10:0:99::9 fd00:10::1 25
  reach silent on_clients 192.168.10.5 192.168.10.1 8025
  reach open on_relay 127.0.0.1 127.0.0.1 8025
  # other services are none of its business
  reach open on_clients 192.168.99.9 192.168.10.1 22
}

firewall_outward() {
  reach open on_relay 192.168.10.1 192.168.10.5 25 barid
  reach reset on_relay 192.168.10.1 192.168.10.5 25 nobody
  reach reset on_relay 192.168.10.1 192.168.10.5 25 root
  reach reset on_relay fd00:10::1 fd00:10::5 25 nobody
  reach open on_relay 192.168.10.1 192.168.10.5 587 nobody
}

firewall_floods() {
  local open
  open=$(on_clients python3 "$HERE/reach.py" hold 192.168.10.6 192.168.10.1 25 450)
  expect "connections at once" "$open" 400
  open=$(on_clients python3 "$HERE/reach.py" many 192.168.10.7 192.168.10.1 25 900)
  ((open >= 500 && open < 900)) || fail "$open of 900 connections one after the other were let in"
  # nobody else is hit
  reach open on_clients 192.168.10.8 192.168.10.1 25
}
