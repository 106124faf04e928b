# Cases: how they fail, wait, find ports, and end what they started. Sourced.
# shellcheck shell=bash

readonly PATIENCE_S=30

CASE_DIR=    # files of the case
STARTED=()   # pids of what the case has started
STOPPERS=()  # commands that stop what has no pid of ours

# fail REASON: ends the case.
fail() {
  printf '%s\n' "$*" | tee "$CASE_DIR/reason"
  exit 1
}

# reason DIR: why a case failed, in one line.
reason() {
  if [[ -s $1/reason ]]; then
    tr '\n' ' ' <"$1/reason"
  else
    # a command failed that nobody expected to
    tail -n 3 "$1/case.log" | tr '\n' ' '
  fi
}

# Prints the milliseconds since boot: wall time may step.
now_ms() {
  local up
  read -r up _ </proc/uptime
  up=${up/./}0
  printf '%d\n' "$((10#$up))"
}

# wait_for WHAT COMMAND...: polls COMMAND until it succeeds; fails the case when
# that takes too long.
wait_for() {
  local what=$1 deadline=$(($(now_ms) + PATIENCE_S * 1000))
  shift
  until "$@"; do
    (($(now_ms) < deadline)) || fail "waited ${PATIENCE_S}s for $what"
    sleep 0.05
  done
}

# holds_for MS WHAT COMMAND...: polls COMMAND so long; fails the case when it does.
holds_for() {
  local what=$2 deadline=$(($(now_ms) + $1))
  shift 2
  while (($(now_ms) < deadline)); do
    "$@" || fail "$what did not last"
    sleep 0.05
  done
}

is_listening() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

# free_port VARIABLE: a port below those that the kernel gives to clients, with
# nobody behind it, and never the same one twice.
NEXT_PORT=$((20000 + RANDOM % 8000))
free_port() {
  while is_listening "127.0.0.1:$NEXT_PORT"; do NEXT_PORT=$((NEXT_PORT + 1)); done
  printf -v "$1" '%d' "$NEXT_PORT"
  NEXT_PORT=$((NEXT_PORT + 1))
}

# start NAME COMMAND...: runs it beside the case, its output in NAME.log; sets
# PID.
start() {
  local name=$1
  shift
  "$@" >>"$CASE_DIR/$name.log" 2>&1 &
  PID=$!
  STARTED+=("$PID")
}

# forget PID: it is gone, or will be.
forget() {
  local pid rest=()
  for pid in "${STARTED[@]}"; do
    [[ $pid == "$1" ]] || rest+=("$pid")
  done
  STARTED=(${rest[@]+"${rest[@]}"})
}

# stop PID: ends it and gives its exit status.
stop() {
  forget "$1"
  kill "$1" 2>/dev/null || true
  wait "$1"
}

# finish PID: waits for its end and gives its exit status.
finish() {
  local status=0
  wait "$1" || status=$?
  forget "$1"
  return "$status"
}

case_end() {
  local stopper pid
  for stopper in ${STOPPERS[@]+"${STOPPERS[@]}"}; do
    $stopper >/dev/null 2>&1 || true
  done
  for pid in ${STARTED[@]+"${STARTED[@]}"}; do
    stop "$pid" || true
  done
}

# expect WHAT GOT WANTED
expect() {
  [[ $2 == "$3" ]] || fail "$1 is '$2', not '$3'"
}

# expect_match WHAT GOT REGEX
expect_match() {
  [[ $2 =~ $3 ]] || fail "$1 is '$2', which does not match '$3'"
}
