# Time: deadlines and durations for the comparison script. Sourced, not run.
# shellcheck shell=bash
#
# /proc/uptime is monotonic (a resolution of 10 ms is enough here); wall time
# is used nowhere, so a clock step cannot bend a figure.

# Prints the milliseconds since boot.
now_ms() {
  local up
  read -r up _ </proc/uptime
  up=${up/./}0
  printf '%d\n' "$((10#$up))"
}

# wait_until SECONDS COMMAND...: polls COMMAND until it succeeds; fails when
# SECONDS have passed.
wait_until() {
  local deadline=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    (($(now_ms) < deadline)) || return 1
    sleep 0.05
  done
}
