# What is looked at each second of a run: the server's memory and, as a
# monitoring system would, Barid's metrics. Sourced.
# shellcheck shell=bash

PROBE=

# probe_start SERVER: samples into pss.txt (KiB, one sample a line) until
# probe_stop, or until this script is gone.
probe_start() {
  while kill -0 $$ 2>/dev/null; do
    cgroup_pss_kib >>"$RUN/pss.txt"
    if [[ $1 == barid ]]; then barid_get /metrics >"$RUN/metrics.txt" 2>/dev/null || true; fi
    sleep 1
  done &
  PROBE=$!
}

# Takes the last sample and ends the sampling.
probe_stop() {
  [[ $PROBE ]] || return 0
  kill "$PROBE" 2>/dev/null || true
  wait "$PROBE" 2>/dev/null || true
  PROBE=
  if [[ -d $CGROUP ]]; then cgroup_pss_kib >>"$RUN/pss.txt"; fi
}
