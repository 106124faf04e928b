# The cgroup of the server under test: its CPU time and its memory. Sourced.
# shellcheck shell=bash
#
# Every process of the server, ended ones included, is charged to one cgroup;
# load generator, sink and this script stay outside. Uses cgroup v2 where it
# works, otherwise the cpuacct controller of v1, otherwise refuses.

CGROUP_KIND=
CGROUP_PARENT=
CGROUP=

# Finds a hierarchy that really counts; fails if there is none.
cgroup_detect() {
  local kind parent
  for kind in v2 v1; do
    for parent in $(cgroup_mounts "$kind"); do
      if cgroup_counts "$kind" "$parent"; then
        CGROUP_KIND=$kind CGROUP_PARENT=$parent
        return 0
      fi
    done
  done
  return 1
}

cgroup_mounts() {
  case $1 in
    v2) findmnt --noheadings --list --output TARGET --types cgroup2 ;;
    v1) findmnt --noheadings --list --output TARGET --types cgroup --options cpuacct ;;
  esac || true
}

# Burns a little CPU in a fresh cgroup and looks whether it is counted.
cgroup_counts() {
  local CGROUP_KIND=$1 CGROUP_PARENT=$2 CGROUP='' used=0
  cgroup_open 2>/dev/null || return 1
  cgroup_run bash -c 'for ((i = 0; i < 100000; i++)); do :; done' 2>/dev/null || true
  used=$(cgroup_cpu_us 2>/dev/null) || used=0
  cgroup_close
  ((used >= 10000))
}

# Makes the cgroup of the next run.
cgroup_open() {
  CGROUP=$CGROUP_PARENT/barid-compare.$$
  mkdir "$CGROUP" && [[ -w $CGROUP/cgroup.procs ]]
}

# cgroup_run COMMAND...: runs it inside the cgroup. CGROUP_JOIN does the same
# as a command prefix, for use behind a namespace prefix.
cgroup_run() { "${CGROUP_JOIN[@]}" "$CGROUP" "$@"; }

# shellcheck disable=SC2016 # expanded by the inner shell
readonly CGROUP_JOIN=(sh -c 'echo 0 >"$1/cgroup.procs" || exit 1; shift; exec "$@"' join)

# Prints the CPU time charged so far, in microseconds.
cgroup_cpu_us() {
  local key value
  if [[ $CGROUP_KIND == v1 ]]; then
    read -r value <"$CGROUP/cpuacct.usage"
    printf '%d\n' "$((value / 1000))"
    return 0
  fi
  while read -r key value; do
    [[ $key == usage_usec ]] && printf '%d\n' "$value" && return 0
  done <"$CGROUP/cpu.stat"
  return 1
}

# Prints the proportional set size of all its processes, in KiB. A process
# that ends meanwhile counts nothing.
cgroup_pss_kib() {
  sed 's|.*|/proc/&/smaps_rollup|' "$CGROUP/cgroup.procs" |
    xargs --no-run-if-empty cat 2>/dev/null |
    awk '/^Pss:/ { sum += $2 } END { print sum + 0 }' || true
}

cgroup_empty() { [[ -z $(<"$CGROUP/cgroup.procs") ]]; }

# cgroup_signal SIGNAL: sends it to every process inside.
cgroup_signal() {
  local pid
  while read -r pid; do
    kill -s "$1" "$pid" 2>/dev/null || true
  done <"$CGROUP/cgroup.procs"
}

# Asks the processes inside to end, then makes them.
cgroup_stop() {
  [[ $CGROUP && -d $CGROUP ]] || return 0
  cgroup_signal TERM
  wait_until 10 cgroup_empty || wait_until 10 cgroup_killed
}

cgroup_killed() {
  cgroup_signal KILL
  cgroup_empty
}

# Removes the cgroup; its processes must have been ended.
cgroup_close() {
  [[ $CGROUP && -d $CGROUP ]] || return 0
  wait_until 10 rmdir "$CGROUP" 2>/dev/null || true
  CGROUP=
}
