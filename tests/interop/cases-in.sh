# Cases about mail that comes in. Sourced.
# shellcheck shell=bash

CASES+=(
  "swaks swaks_content"
  "swaks-pipelined swaks_content --pipeline"
  "swaks-three-recipients swaks_three_recipients"
  "swaks-not-a-client swaks_not_a_client"
  "swaks-foreign-sender swaks_foreign_sender"
  "smtplib-eight-bit smtplib_bytes eight-bit"
  "smtplib-dots smtplib_bytes dots"
  "smtplib-large smtplib_bytes large"
  "smtp-source-2000 smtp_source_2000"
  "postfix-relayhost postfix_relayhost"
  "postfix-null-sender postfix_null_sender"
  "metrics-and-health metrics_and_health"
  "metrics-promtool metrics_promtool"
)

# barid_and_sink KIND [TOML]: a sink for sink.test, a Barid that sends there, and a message of a KIND.
barid_and_sink() {
  ORIGINAL=$CASE_DIR/original
  SINK=$CASE_DIR/sink
  free_port SINK_PORT
  sink_start sink "127.0.0.1:$SINK_PORT"
  barid_start "$(route sink.test "$SINK_PORT")
${2-}"
  py make "$1" "$ORIGINAL"
}

# swaks_send FROM TO [OPTIONS]...
swaks_send() {
  local from=$1 to=$2
  shift 2
  # swaks adds the last line end by itself
  head -c -2 "$ORIGINAL" >"$ORIGINAL.swaks"
  swaks --server "127.0.0.1:$BARID_PORT" --helo client.sender.test --from "$from" --to "$to" \
    --data "@$ORIGINAL.swaks" "$@"
}

# swaks_content [OPTIONS]...
swaks_content() {
  barid_and_sink plain
  swaks_send sender@sender.test someone@sink.test "$@"
  arrived "$SINK" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  expect "the sender" "$(sink_arguments "${MESSAGES[0]}" Mail | cut -d' ' -f1)" "<sender@sender.test>"
  expect "the recipient" "$(sink_arguments "${MESSAGES[0]}" Rcpt)" "<someone@sink.test>"
}

# One message, two copies: its body is shared, and both are whole.
swaks_three_recipients() {
  barid_and_sink plain
  barid_stop
  free_port other_port
  sink_start other "127.0.0.1:$other_port"
  barid_start "$(route sink.test "$SINK_PORT")
$(route other.test "$other_port")"
  swaks_send sender@sender.test a@sink.test,b@other.test,c@sink.test
  arrived "$SINK" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  expect "recipients of sink.test" "$(sink_arguments "${MESSAGES[0]}" Rcpt | xargs)" "<a@sink.test> <c@sink.test>"
  arrived "$CASE_DIR/other" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  expect "recipients of other.test" "$(sink_arguments "${MESSAGES[0]}" Rcpt)" "<b@other.test>"
  wait_for "three deliveries" metric_is barid_delivered_recipients_total 3
  expect "accepted messages" "$(metric barid_accepted_messages_total)" 1
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

# swaks_refused REASON STATUS REPLY ARGUMENTS...: the client is refused with a
# reply, which swaks tells by its exit status, and nothing is taken.
swaks_refused() {
  local reason=$1 wanted=$2 reply=$3 status=0 said
  shift 3
  barid_and_sink plain
  said=$(swaks_send "$@") || status=$?
  printf '%s\n' "$said"
  expect "swaks' exit status" "$status" "$wanted"
  expect_match "the reply" "$(grep -F '<** ' <<<"$said" | tr -d '\r')" "$reply"
  expect "refusals" "$(metric barid_refused_total "reason=\"$reason\"")" 1
  expect "accepted messages" "$(metric barid_accepted_messages_total)" 0
}

swaks_not_a_client() {
  # 21: in place of the greeting
  swaks_refused relay 21 '^<\*\*  *554 5\.7\.1 ' sender@sender.test someone@sink.test --local-interface 127.0.0.2
}

swaks_foreign_sender() {
  # 23: at MAIL
  swaks_refused sender 23 '^<\*\*  *550 5\.7\.1 ' sender@foreign.test someone@sink.test
}

# smtplib_bytes KIND
smtplib_bytes() {
  barid_and_sink "$1"
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" someone@sink.test
  arrived "$SINK" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
}

smtp_source_2000() {
  barid_and_sink plain
  smtp-source -s 20 -m 2000 -d -l 2048 -M client.sender.test -f sender@sender.test -t someone@sink.test \
    "127.0.0.1:$BARID_PORT"
  arrived "$SINK" 2000
  expect "different ids" "$(py ids "$SINK")" 2000
  expect "accepted messages" "$(metric barid_accepted_messages_total)" 2000
  wait_for "all deliveries" metric_is barid_delivered_recipients_total 2000
}

postfix_relayhost() {
  barid_and_sink plain
  free_port postfix_port
  postfix_start postfix "$postfix_port" "relayhost = [127.0.0.1]:$BARID_PORT"
  py send "$postfix_port" sender@sender.test "$ORIGINAL" someone@sink.test
  arrived "$SINK" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
}

# Postfix's own report goes through Barid, which must take the null sender.
postfix_null_sender() {
  barid_and_sink plain
  free_port postfix_port
  postfix_start postfix "$postfix_port" "relayhost = [127.0.0.1]:$BARID_PORT" \
    "transport_maps = inline:{ {gone.test=error:5.1.2 gone} }" "smtpd_reject_unlisted_recipient = no"
  py send "$postfix_port" sender@sink.test "$ORIGINAL" someone@gone.test
  arrived "$SINK" 1
  expect "the sender" "$(sink_arguments "${MESSAGES[0]}" Mail | cut -d' ' -f1)" "<>"
  expect "the recipient" "$(sink_arguments "${MESSAGES[0]}" Rcpt | cut -d' ' -f1)" "<sender@sink.test>"
  grep -q '^Content-Type: multipart/report;' "${MESSAGES[0]}" || fail "what arrived is no report"
}

metrics_and_health() {
  barid_and_sink plain "[dns]
dnssec = false"
  expect "/healthz" "$(admin /healthz)" ok
  expect "/readyz" "$(admin /readyz)" ok
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" someone@sink.test
  arrived "$SINK" 1
  wait_for "the delivery in /metrics" metric_is barid_delivered_recipients_total 1
  expect "accepted messages" "$(metric barid_accepted_messages_total)" 1
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

metrics_promtool() {
  find_promtool
  barid_and_sink plain
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" someone@sink.test
  arrived "$SINK" 1
  wait_for "the delivery in /metrics" metric_is barid_delivered_recipients_total 1
  admin /metrics >"$CASE_DIR/metrics"
  "$PROMTOOL" check metrics <"$CASE_DIR/metrics" || fail "promtool: $("$PROMTOOL" check metrics <"$CASE_DIR/metrics" 2>&1)"
}
