# The case of the service: deploy/systemd under a systemd that boots for it. Sourced.
# shellcheck shell=bash
# shellcheck disable=SC2016 # expanded by inner shells, or by nobody

CASES+=("deploy-unit-runs unit_runs")

# Boots systemd in namespaces of its own, with a cgroup to itself; sets MACHINE_INIT, its first process.
machine_boot() {
  deploy_needs systemctl=systemd ip=iproute2
  MACHINE_CGROUP=barid-interop.$BASHPID
  mkdir "$CASE_DIR/cgroup"
  STOPPERS+=(machine_end)
  start machine setpriv --pdeathsig KILL unshare --mount sh -euc '
mount -t cgroup2 cgroup2 "$1/cgroup"
mkdir "$1/cgroup/$2"
echo $$ >"$1/cgroup/$2/cgroup.procs"
exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child --mount-proc bash "$3"
' machine "$CASE_DIR" "$MACHINE_CGROUP" "$HERE/machine.sh"
  MACHINE_KEEPER=$PID
  wait_for "the machine's first process" has_machine "$MACHINE_KEEPER"
  MACHINE_INIT=$CHILD
  wait_for "systemd" is_booted
}

# The keeper has had other children before, which set the stage.
has_machine() { CHILD=$(pgrep --parent "$1" --full 'machine\.sh|systemd/systemd'); }
is_booted() { [[ $(in_machine systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }

# in_machine COMMAND...
in_machine() { nsenter --target "$MACHINE_INIT" --mount --pid --net --uts --ipc --cgroup "$@"; }

machine_end() {
  # with its keeper ends all that is inside; a gentler signal unshare does not hear
  kill -KILL "$MACHINE_KEEPER" ${MACHINE_INIT-} || true
  unshare --mount sh -c '
mount -t cgroup2 cgroup2 "$1/cgroup"
for try in 1 2 3 4 5 6 7 8 9 10; do
  [ -d "$1/cgroup/$2" ] || exit 0
  find "$1/cgroup/$2" -depth -type d -exec rmdir {} + && exit 0
  sleep 0.1
done' machine "$CASE_DIR" "$MACHINE_CGROUP"
}

# guide SECTION: prints the commands below a heading of deploy/README.md.
guide() {
  sed -n "/^#\+ $1\$/,/^#\+ /p" "$DEPLOY/README.md" | sed -n '/^```sh$/,/^```$/{/^```/!p}'
}

# The unit as it is, under a systemd as it is, installed by the guide's own commands. But a call that the
# unit's filter forbids does not only fail here: it kills.
unit_runs() {
  local source=$CASE_DIR/source main
  machine_boot
  mkdir -p "$source/target/release"
  ln -s "$(realpath "$DEPLOY")" "$source/deploy"
  ln -s "$BIN_DIR/barid" "$source/target/release/barid"
  guide "Install" | run_in_machine "cd '$source'"
  in_machine sh -euc "
mkdir /etc/systemd/system/barid.service.d
printf '[Service]\nSystemCallErrorNumber=kill\nStandardOutput=append:/run/barid.log\nStandardError=inherit\n' \
  >/etc/systemd/system/barid.service.d/interop.conf
printf '\n[[route]]\ndomains = [\"sink.test\"]\nvia = \"127.0.0.1:2600\"\n' >>/etc/barid/barid.toml"
  guide "Start" | run_in_machine
  expect "its state" "$(in_machine systemctl is-active barid)" active
  expect "what it tells systemd" "$(unit_property StatusText)" relaying
  main=$(unit_property MainPID)
  unit_is_confined "$main"
  unit_relays
  unit_keeps_on_when_reloaded_with_a_fault "$main"
  unit_comes_back_after_a_kill "$main"
  in_machine systemctl stop barid
  expect "how it ended" "$(unit_property Result)" success
  in_machine runuser -u barid -- barid spool verify || fail "the spool has faults"
  in_machine cat /run/barid.log
  expect "rebuilds of the index" "$(in_machine grep -c index_rebuild /run/barid.log || true)" 0
}

# run_in_machine [PRELUDE]: the commands of standard input, until one fails.
run_in_machine() {
  local commands
  commands=$(cat)
  [[ -n $commands ]] || fail "the guide has no commands there"
  in_machine bash -euxc "${1-cd /}
$commands" || unit_fails "the guide's commands fail"
}

# unit_fails REASON: with what systemd and Barid have to say about it.
unit_fails() {
  in_machine systemctl status --no-pager --full barid || true
  in_machine cat /run/barid.log || true
  fail "$1; systemd says $(unit_property Result) $(unit_property ExecMainStatus), Barid $(in_machine tail -n 1 /run/barid.log)"
}

unit_property() { in_machine systemctl show --value --property "$1" barid; }

# status_of PID FIELD: of /proc/PID/status.
status_of() { in_machine awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"; }

unit_is_confined() {
  expect "its capabilities" "$(status_of "$1" CapEff)" 0000000000000400
  expect "those it may get" "$(status_of "$1" CapBnd)" 0000000000000400
  expect "NoNewPrivs" "$(status_of "$1" NoNewPrivs)" 1
  expect "Seccomp" "$(status_of "$1" Seccomp)" 2
  expect "its user" "$(in_machine stat -c %U "/proc/$1")" barid
  expect "the queue's owner and mode" "$(in_machine stat -c '%U %a' /var/lib/barid)" "barid 700"
  if in_machine nsenter --target "$1" --mount touch /etc/barid/mine; then fail "it can write /etc"; fi
  in_machine nsenter --target "$1" --mount touch /var/lib/barid/mine || fail "it cannot write its queue"
  in_machine rm /var/lib/barid/mine
}

# Small and large, in clear text and under TLS, many at once.
unit_relays() {
  local kind
  SINK=$CASE_DIR/sink
  mkdir "$SINK"
  chown "$PEER_USER" "$SINK"
  start sink nsenter --target "$MACHINE_INIT" --net smtp-sink -u "$PEER_USER" -d "$SINK/m." 127.0.0.1:2600 100
  wait_for "smtp-sink" in_machine bash -c 'exec 3<>/dev/tcp/127.0.0.1/2600'
  for kind in plain large; do
    ORIGINAL=$CASE_DIR/$kind
    py make "$kind" "$ORIGINAL"
    in_machine swaks --server 127.0.0.1:25 --from root@example.org --to "$kind@sink.test" --data "@$ORIGINAL" >/dev/null
    in_machine swaks --server 127.0.0.1:25 -tls --from root@example.org --to "$kind@sink.test" --data "@$ORIGINAL" >/dev/null
  done
  in_machine smtp-source -s 20 -m 500 -d -l 2048 -f root@example.org -t someone@sink.test 127.0.0.1:25
  arrived "$SINK" 504
  # no DNS answers for this one: it waits
  in_machine swaks --server 127.0.0.1:25 --from root@example.org --to later@elsewhere.test >/dev/null
  expect_match "the queue as root sees it" "$(in_machine barid queue ls)" later@elsewhere\\.test
  expect_match "the queue as the relay's user sees it" "$(in_machine runuser -u barid -- barid queue ls)" later@elsewhere
  if in_machine runuser -u nobody -- barid queue ls; then fail "strangers see the queue"; fi
}

unit_keeps_on_when_reloaded_with_a_fault() {
  in_machine sh -c 'cp /etc/barid/barid.toml /run/right.toml; echo nonsense >>/etc/barid/barid.toml'
  if in_machine systemctl reload barid; then fail "a reload with a fault succeeds"; fi
  in_machine cp /run/right.toml /etc/barid/barid.toml
  expect "its process after that" "$(unit_property MainPID)" "$1"
  expect "its state after that" "$(in_machine systemctl is-active barid)" active
  # and without one it is heeded, by the same process
  in_machine sed -i 's,^rate = "120/m",rate = "240/m",' /etc/barid/barid.toml
  in_machine systemctl reload barid
  wait_for "the reload" in_machine grep -q "event=reloaded" /run/barid.log
  expect "its process after the reload" "$(unit_property MainPID)" "$1"
  expect_match "what has changed" "$(in_machine grep "event=reloaded" /run/barid.log)" rate
}

unit_comes_back_after_a_kill() {
  in_machine kill -KILL "$1"
  wait_for "another process" another_main "$1"
  wait_for "readiness" status_text_is relaying
  expect "restarts" "$(unit_property NRestarts)" 1
}

another_main() {
  local main
  main=$(unit_property MainPID)
  [[ $main != 0 && $main != "$1" ]]
}
status_text_is() { [[ $(unit_property StatusText) == "$1" ]]; }
