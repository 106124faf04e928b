# Cases about reports on TLS (RFC 8460), in the world of cases-transport.sh. Sourced.
# shellcheck shell=bash

CASES+=(
  "tlsrpt tls_reports"
  "tlsrpt-without-key tls_reports_unsigned"
)

# tlsrpt COMMAND ARGUMENTS...: see transport/tlsrpt.py.
tlsrpt() { finds_no_fault /usr/bin/python3 "$TRANSPORT/tlsrpt.py" "$@"; }

finds_no_fault() { "$@" 2>"$CASE_DIR/wrong" || fail "$(paste -sd';' "$CASE_DIR/wrong")"; }

# Everything from PyPI but what goes without, once a run; sets PARSEDMARC.
parsedmarc_get() {
  PARSEDMARC=$WORK/parsedmarc
  [[ ! -d $PARSEDMARC ]] || return 0
  python3 -m pip --version >/dev/null || deploy_needs pip3=python3-pip
  python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps --target "$PARSEDMARC" \
    --requirement "$HERE/parsedmarc.txt" || fail "cannot get parsedmarc from PyPI"
}

# day_of_case NUMBER: the date of that day of the case, of which the first is number 0.
day_of_case() { date -u -d "$CASE_DATE + $1 days" +%F; }

# clock_says NUMBER TIME: what is started with `env "${FAKED[@]}"` lives on that day; when the case began it was that
# time, UTC. What measures time measures it rightly; but Python must not sleep there, which libfaketime cannot.
clock_says() {
  local seconds
  printf -v seconds '%+d' "$(($(date -u -d "$(day_of_case "$1") $2" +%s) - CASE_BEGAN))"
  FAKED=(LD_PRELOAD="$FAKETIME_LIBRARY" FAKETIME="$seconds" FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1)
}

# Sets FAKETIME_LIBRARY, CASE_BEGAN and CASE_DATE.
faketime_get() {
  unpack libfaketime
  FAKETIME_LIBRARY=$(find "$UNPACKED" -name libfaketime.so.1)
  CASE_BEGAN=$(date +%s)
  CASE_DATE=$(date -u -d "@$CASE_BEGAN" +%F)
  clock_says 1 05:00
  expect "a time that is faked" "$(env "${FAKED[@]}" date -u +'%F %H')" "$(day_of_case 1) 05"
}

# The world, who collects reports in it, and Barid's configuration.
reports_world() {
  export PYTHONDONTWRITEBYTECODE=1
  world_needs
  faketime_get
  parsedmarc_get
  world_start
  mkdir "$CASE_DIR"/{posts,shown,shown-again,first,again}
  start collector nsenter --target "$WORLD_PID" --net --mount \
    /usr/bin/python3 "$TRANSPORT/tlsrpt.py" collect "$CASE_DIR/world" "$CASE_DIR/posts"
  wait_for "who collects reports" is_listening_there "$(<"$CASE_DIR/world/collector.address"):443"
  barid_configured 127.0.0.53
  cat >>"$CASE_DIR/barid.toml" <<'TOML'
[dkim]
check_interval = "1s"
[tls.reports]
from = "tls-reports@relay.interop.test"
organization = "Interop"
contact = "postmaster@relay.interop.test"
TOML
  "$BIN_DIR/barid" config check --config "$CASE_DIR/barid.toml" || fail "the configuration has faults"
}

# barid_lives NAME: at the time that is faked; its log is NAME.log. Sets BARID_PID.
barid_lives() {
  start "$1" nsenter --target "$WORLD_PID" --net --mount env "${FAKED[@]}" \
    "$BIN_DIR/barid" serve --config "$CASE_DIR/barid.toml"
  BARID_PID=$PID
  wait_for "Barid's listener" is_listening_there "127.0.0.1:$BARID_PORT"
}

# The key of the domain from which reports come.
reports_key_signs() { "$BIN_DIR/barid" dkim list --json --config "$CASE_DIR/barid.toml" | grep -q '"active"'; }

# reports_mail STAGE LOG: hands over its messages, and waits for what becomes of them. What was put off is taken away,
# before anybody looks again whether its host has changed: each message has one attempt.
reports_mail() {
  on_world /usr/bin/python3 "$TRANSPORT/tlsrpt.py" send "$BARID_PORT" "$1" || fail "mail is not taken"
  tlsrpt settled "$CASE_DIR/$2.log" "$1"
  "$BIN_DIR/barid" queue rm --all --config "$CASE_DIR/barid.toml" || fail "what was put off is not taken away"
}

# reports_listed NUMBER STAGE
reports_listed() { tlsrpt listed "$BIN_DIR/barid" "$CASE_DIR/barid.toml" "$(day_of_case "$1")" "$2"; }

# reports_shown NUMBER STAGE DIR
reports_shown() {
  tlsrpt shown "$CASE_DIR/world" "$BIN_DIR/barid" "$CASE_DIR/barid.toml" "$(day_of_case "$1")" "$2" "$CASE_DIR/$3"
}

# Mail in every situation; when the world has moved on, and Barid has been started anew, some more.
reports_first_day() {
  clock_says 0 12:00
  barid_lives noon
  reports_mail first noon
  reports_listed 0 first
  barid_stop
  world_moves_on
  barid_lives afternoon
  reports_listed 0 first
  reports_mail later afternoon
  reports_listed 0 later
  reports_shown 0 later shown
}

# reports_come NUMBER STAGE DIR SHOWN [unsigned]: the reports of the day come, are as they must be, and count what
# happened.
reports_come() {
  local number=$1 stage=$2 dir=$CASE_DIR/$3 shown=$CASE_DIR/$4
  tlsrpt gather "$CASE_DIR/world" "$CASE_DIR/posts" "$(day_of_case "$number")" "$stage" "$dir" "${@:5}"
  PYTHONPATH=$PARSEDMARC finds_no_fault python3 "$TRANSPORT/tlsrpt.py" parse "$dir"
  tlsrpt judge "$CASE_DIR/world" "$(day_of_case "$number")" "$stage" "$dir" "$shown"
}

# The reports of the first day come the next morning, once, and are no mail to be reported on. What fails that day is
# reported the morning after.
tls_reports() {
  reports_world
  clock_says 0 12:00
  barid_lives midday
  # at the time of the relay: a key that was made later waits
  env "${FAKED[@]}" "$BIN_DIR/barid" dkim import relay.interop.test reports "$CASE_DIR/world/dkim.pem" \
    --config "$CASE_DIR/barid.toml" >/dev/null || fail "the key is not taken"
  wait_for "a key that signs" reports_key_signs
  barid_stop
  reports_first_day
  barid_stop
  clock_says 1 05:00
  barid_lives next-day
  reports_come 0 later first shown
  barid_stop
  barid_lives next-noon
  reports_mail again next-noon
  reports_listed 1 again
  reports_shown 1 again shown-again
  barid_stop
  tlsrpt told later "$CASE_DIR/next-day.log" "$CASE_DIR/next-noon.log"
  clock_says 2 05:00
  barid_lives last-day
  reports_come 1 again again shown-again
  barid_stop
  tlsrpt told again "$CASE_DIR/last-day.log"
  tlsrpt once "$CASE_DIR/world" "$CASE_DIR/posts" "$(day_of_case 0)" "$(day_of_case 1)"
}

# Where mail from the reports' domain would not be signed, none is sent; others' reports are.
tls_reports_unsigned() {
  reports_world
  reports_first_day
  barid_stop
  clock_says 1 05:00
  barid_lives next-day
  reports_come 0 later first shown unsigned
  barid_stop
  tlsrpt told later "$CASE_DIR/next-day.log" unsigned
}
