# The sandbox: one network, mount and process namespace per run. Sourced.
# shellcheck shell=bash
#
# The first process of the namespaces only sleeps. When it dies, the kernel
# ends everything inside, so no server process can outlive its run; it dies
# with this script, whatever ends the script.
#
# Owns SANDBOX_KEEPER (the process to kill), IN_NET and IN_SANDBOX (command
# prefixes: join the network namespace only, or all three).

SANDBOX_KEEPER=
IN_NET=()
IN_SANDBOX=()

# Files and directories bound over the machine's own, where ROOT has them.
readonly SANDBOX_PRIVATE=(etc/resolv.conf etc/hosts etc/postfix
  var/spool/postfix var/lib/postfix var/log)

# Runs inside, as the first process. $1 is ROOT, the rest SANDBOX_PRIVATE.
# shellcheck disable=SC2016 # expanded by the inner shell
readonly SANDBOX_INIT='
  set -eu
  root=$1
  shift
  ip link set lo up
  for path; do
    if [ -e "$root/$path" ]; then mount --bind "$root/$path" "/$path"; fi
  done
  : >"$root/ready"
  sleep infinity &
  wait
'

# sandbox_open ROOT: makes the namespaces, with the private files under ROOT.
sandbox_open() {
  local root=$1 init
  printf 'nameserver 127.0.0.1\n' >"$root/etc/resolv.conf"
  printf '127.0.0.1 localhost\n::1 localhost\n127.0.0.1 relay.example.org relay\n' >"$root/etc/hosts"
  setpriv --pdeathsig KILL \
    unshare --net --mount --pid --fork --kill-child --mount-proc \
    bash -c "$SANDBOX_INIT" sandbox "$root" "${SANDBOX_PRIVATE[@]}" &
  SANDBOX_KEEPER=$!
  wait_until 10 test -e "$root/ready" || return 1
  init=$(pgrep --parent "$SANDBOX_KEEPER") || return 1
  IN_NET=(nsenter --target "$init" --net)
  IN_SANDBOX=(nsenter --target "$init" --net --mount --pid)
}

# Ends every process inside and the namespaces with them.
sandbox_close() {
  [[ $SANDBOX_KEEPER ]] || return 0
  kill -KILL "$SANDBOX_KEEPER" 2>/dev/null || true
  wait "$SANDBOX_KEEPER" 2>/dev/null || true
  SANDBOX_KEEPER=
}

# sandbox_listens PROTOCOL ADDRESS:PORT: is a socket bound there? (tcp or udp)
sandbox_listens() {
  local found
  found=$("${IN_NET[@]}" ss --no-header --numeric --listening "--$1" "src $2")
  [[ $found ]]
}
