# Cases about dirt: 36 messages of dirty.py, sent to Barid and judged by the octets that leave it.
# Sourced.
# shellcheck shell=bash

CASES+=(
  "dirty-data dirty data refuse"
  "dirty-data-to-chunking dirty data refuse chunking"
)
LATER+=(
  "dirty-chunks dirty chunks refuse"
  "dirty-chunks-to-chunking dirty chunks refuse chunking"
  "dirty-data-normalized dirty data normalize"
  "dirty-chunks-normalized dirty chunks normalize"
  "dirty-normalized-to-chunking dirty data normalize chunking"
)

# dirty data|chunks refuse|normalize [chunking]: how they come in, what becomes of bare line ends, and
# whether the recorder takes chunks.
dirty() {
  local port taken
  free_port port
  mkdir "$CASE_DIR/recorder"
  start recorder python3 "$HERE/recorder.py" "127.0.0.1:$port" "$CASE_DIR/recorder" "${@:3}"
  wait_for "the recorder" is_listening "127.0.0.1:$port"
  [[ $2 == refuse ]] || APPS_SETTING='line_endings = "normalize"'
  barid_start "$(route sink.test "$port")"
  taken=$(dirt send "$BARID_PORT" "$1" "$CASE_DIR/replies")
  wait_for "what was taken" metric_is barid_delivered_recipients_total "$taken"
  expect "accepted messages" "$(metric barid_accepted_messages_total)" "$taken"
  dirt judge "$CASE_DIR/recorder" "$CASE_DIR/replies" "$1" "$2"
}

# dirt COMMAND...: see dirty.py; fails the case when it does.
dirt() { python3 "$HERE/dirty.py" "$@" 2>"$CASE_DIR/python.err" || fail "$(tail -n 1 "$CASE_DIR/python.err")"; }
