# Figures: one JSON record a run, and the table and ratios at the end. Sourced.
# shellcheck shell=bash

# run_json NAME: prints a file of the current run, or null if it has none.
run_json() { jq --compact-output . "$RUN/$1.json" 2>/dev/null | tail -n 1 | grep . || echo null; }

# run_stamp NAME: prints "TIME_MS CPU_US" as a JSON array, or null.
run_stamp() {
  local time_ms cpu_us
  if read -r time_ms cpu_us 2>/dev/null <"$RUN/$1"; then
    printf '[%d,%d]\n' "$time_ms" "$cpu_us"
  else
    echo null
  fi
}

# Prints the memory samples as a JSON array.
run_pss() {
  local samples=/dev/null
  if [[ -e $RUN/pss.txt ]]; then samples=$RUN/pss.txt; fi
  jq --slurp --compact-output 'map(select(. > 0))' "$samples"
}

# record_run SERVER SCENARIO ROUND PROBLEM: adds the run to runs.jsonl and
# prints it in a line.
record_run() {
  local record
  record=$(jq --null-input --compact-output --from-file "$HERE/lib/record.jq" \
    --arg server "$1" --arg scenario "$2" --argjson round "$3" --arg problem "$4" \
    --argjson messages "$MESSAGES" --argjson bytes "$MESSAGE_BYTES" --arg relays "$RELAYS" \
    --argjson load "$(run_json load)" --argjson sink "$(run_json sink)" \
    --argjson start "$(run_stamp start)" --argjson load_end "$(run_stamp load.end)" \
    --argjson sink_end "$(run_stamp sink.end)" \
    --argjson pss "$(run_pss)")
  printf '%s\n' "$record" >>"$WORK/runs.jsonl"
  jq --raw-output --from-file "$HERE/lib/line.jq" <<<"$record" >&2
  [[ $(jq -r .problem <<<"$record") == null ]] || run_failed
}

# Shows why the current run failed and keeps that in mind.
run_failed() {
  local log
  FAILED=yes
  for log in "$RUN"/*.log "$RUN"/root/var/log/*.log; do
    if [[ -s $log ]]; then
      note "   ${log#"$RUN/"} ends:"
      tail -n 5 "$log" | cut -c 1-300 | sed 's/^/      /' >&2
    fi
  done
}

# Prints the table and the ratios; writes JSON_FILE if one was asked for.
report() {
  local result
  result=$(jq --slurp --from-file "$HERE/lib/report.jq" \
    --arg kernel "$(uname -r)" --argjson cpus "$(nproc)" --arg cgroup "$CGROUP_KIND" \
    --arg postfix "$(postfix_version 2>/dev/null || true)" \
    --arg barid "$(barid_version 2>/dev/null || true)" "$WORK/runs.jsonl")
  if [[ $JSON_FILE ]]; then printf '%s\n' "$result" >"$JSON_FILE"; fi
  jq --raw-output '.medians[0] // empty | keys_unsorted | @tsv' <<<"$result" >"$WORK/table"
  jq --raw-output '.medians[] | map_values(. // "-") | [.[]] | @tsv' <<<"$result" >>"$WORK/table"
  awk -F '\t' '{ printf "%-19s %-16s", $1, $2
    for (i = 3; i <= NF; i++) printf " %14s", $i
    print "" }' "$WORK/table"
  echo
  jq --raw-output '.ratios[] | "ratio \(.scenario) \(.metric) \(.value)"' <<<"$result"
}
