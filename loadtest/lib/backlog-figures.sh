# Samples and figures of the backlog measurement. Sourced.
# shellcheck shell=bash

RSS_WATCHER=
FAILED=no

# rss_watch PID FILE: keeps the largest VmHWM of a process, in KiB, in FILE.
rss_watch() {
  rss_sample "$1" "$2" &
  RSS_WATCHER=$!
}

rss_unwatch() {
  [[ -n $RSS_WATCHER ]] || return 0
  kill "$RSS_WATCHER" 2>/dev/null || true
  wait "$RSS_WATCHER" 2>/dev/null || true
  RSS_WATCHER=
}

rss_sample() {
  local key value _
  while :; do
    while read -r key value _; do
      if [[ $key == VmHWM: ]]; then printf '%s\n' "$value" >"$2.new" && mv "$2.new" "$2"; fi
    done 2>/dev/null <"/proc/$1/status" || return 0
    sleep 0.1
  done
}

# rss_peak_mib LIFE...: the largest of these lives, in MiB.
rss_peak_mib() { cat "${@/#/$WORK/rss-}" | awk '$1 > most { most = $1 } END { printf "%.1f", most / 1024 }'; }

# cpu_ms PID: the CPU a process has used.
cpu_ms() {
  local fields
  fields=$(<"/proc/$1/stat")
  fields=${fields##*) }
  # shellcheck disable=SC2086 # to be split
  set -- $fields
  printf '%d\n' "$((10 * (${12} + ${13})))"
}

# quotient A B DIGITS: A / B; 0 where B is.
quotient() { awk -v a="$1" -v b="$2" -v digits="$3" 'BEGIN { printf "%.*f", digits, b ? a / b : 0 }'; }

# figure METRIC VALUE [below|at-least GOAL]: prints a figure, and its judgement
# where there is a goal.
figure() {
  local judgement=
  if (($# > 2)); then
    if awk -v value="$2" -v how="$3" -v goal="$4" \
      'BEGIN { exit !(how == "below" ? value + 0 < goal + 0 : value + 0 >= goal + 0) }'; then
      judgement=" PASS (goal: ${3/-/ } $4)"
    else
      judgement=" FAIL (goal: ${3/-/ } $4)" FAILED=yes
    fi
  fi
  printf 'backlog %s %s %s%s\n' "${MESSAGES}x$DOMAINS" "$1" "$2" "$judgement"
}

# lines FILE...: how many lines they have together; missing files have none.
lines() { cat "$@" 2>/dev/null | wc -l; }

octets() { stat -c %s "$1" 2>/dev/null || echo 0; }
