# Cases about mail that goes out. Sourced.
# shellcheck shell=bash

CASES+=(
  "later-soft-mail later_after barid_deferred_recipients_total -r MAIL"
  "later-soft-rcpt later_after barid_deferred_recipients_total -r RCPT"
  "later-soft-data later_after barid_deferred_recipients_total -r DATA"
  "later-soft-dot later_after barid_deferred_recipients_total -r ."
  "later-421-rcpt later_after barid_deferred_recipients_total -Q RCPT"
  "later-421-dot later_after barid_deferred_recipients_total -Q ."
  "later-lost-data later_after barid_deferred_recipients_total -q DATA"
  "later-lost-dot later_after barid_deferred_recipients_total -q ."
  "later-421-greeting later_after barid_outbound_connections_total -Q CONNECT"
  "later-lost-ehlo later_after barid_outbound_connections_total -q EHLO"
  "bounce-hard-mail bounce_after MAIL"
  "bounce-hard-rcpt bounce_after RCPT"
  "bounce-hard-data bounce_after DATA"
  "bounce-hard-dot bounce_after ."
  "bounce-large bounce_after RCPT large"
  "without-8bitmime without 8BITMIME -8"
  "eight-bit-refused-without eight_bit_refused_without"
  "without-pipelining without PIPELINING -p"
  "without-enhanced-codes without ENHANCEDSTATUSCODES -E"
  "without-esmtp without ESMTP -e"
  "behind-a-pix without ESMTP -P"
  "mx-second-host mx_delivers mx.interop.test"
  "mx-same-preference mx_delivers pair.interop.test"
  "mx-none-but-address mx_delivers plain.interop.test"
  "mx-null mx_bounces null.interop.test 5.1.10"
  "mx-no-such-domain mx_bounces nosuch.interop.test 5.1.2"
)

# later_after METRIC OPTIONS...: a sink with a fault, seen in METRIC; when it is
# mended, the message arrives, once.
later_after() {
  local seen=$1 port faulty
  shift
  ORIGINAL=$CASE_DIR/original
  py make plain "$ORIGINAL"
  free_port port
  sink_start faulty "127.0.0.1:$port" "$@"
  faulty=$PID
  barid_start "[delivery]
$SHORT_RETRY
$(route sink.test "$port")"
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" someone@sink.test
  wait_for "the fault to be noticed" metric_reached "$seen" 1
  stop "$faulty" || true
  sink_start sink "127.0.0.1:$port"
  arrived "$CASE_DIR/sink" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  wait_for "the delivery" metric_is barid_delivered_recipients_total 1
  expect "bounced recipients" "$(metric barid_bounced_recipients_total)" 0
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

# bounce_after COMMAND [KIND]: a sink that refuses it for good; the sender's sink gets
# the report.
bounce_after() {
  local port sender_port
  ORIGINAL=$CASE_DIR/original
  py make "${2-plain}" "$ORIGINAL"
  free_port port
  free_port sender_port
  sink_start faulty "127.0.0.1:$port" -f "$1"
  sink_start sender "127.0.0.1:$sender_port"
  barid_start "$(route sink.test "$port")
$(route sender.test "$sender_port")"
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" someone@sink.test
  sender_gets_report someone@sink.test 5.3.0
}

# sender_gets_report RECIPIENT STATUS
sender_gets_report() {
  arrived "$CASE_DIR/sender" 1
  py report "${MESSAGES[0]}" "$ORIGINAL" "$1" "$2"
  expect "the report's sender" "$(sink_arguments "${MESSAGES[0]}" Mail | cut -d' ' -f1)" "<>"
  expect "the report's recipient" "$(sink_arguments "${MESSAGES[0]}" Rcpt)" "<sender@sender.test>"
  expect "bounced recipients" "$(metric barid_bounced_recipients_total)" 1
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

# without EXTENSION OPTION: a sink that lacks it is not asked for it, and gets
# its mail all the same.
without() {
  local port arguments protocol=ESMTP kind=eight-bit
  ORIGINAL=$CASE_DIR/original
  # who cannot be told of octets above 127 is sent none
  if [[ $1 == 8BITMIME || $1 == ESMTP ]]; then kind=plain; fi
  py make "$kind" "$ORIGINAL"
  free_port port
  sink_start sink "127.0.0.1:$port" "$2"
  barid_start "$(route sink.test "$port")"
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" a@sink.test b@sink.test
  arrived "$CASE_DIR/sink" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  expect "the recipients" "$(sink_arguments "${MESSAGES[0]}" Rcpt | xargs)" "<a@sink.test> <b@sink.test>"
  arguments=$(sink_arguments "${MESSAGES[0]}" Mail)
  case $1 in
    8BITMIME) expect "MAIL" "$arguments" "<sender@sender.test>" ;;
    ESMTP) expect "MAIL" "$arguments" "<sender@sender.test>" && protocol=SMTP ;;
    *) expect_match "MAIL" "$arguments" '^<sender@sender\.test> .*BODY=8BITMIME' ;;
  esac
  expect "the protocol" "$(sed -n 's/^X-Client-Proto: //p' "${MESSAGES[0]}")" "$protocol"
}

# What needs 8BITMIME goes to no server without it: the sender is told why.
eight_bit_refused_without() {
  local port sender_port
  ORIGINAL=$CASE_DIR/original
  py make eight-bit "$ORIGINAL"
  free_port port
  free_port sender_port
  sink_start sink "127.0.0.1:$port" -8
  sink_start sender "127.0.0.1:$sender_port"
  barid_start "$(route sink.test "$port")
$(route sender.test "$sender_port")"
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" a@sink.test
  arrived "$CASE_DIR/sender" 1
  expect "what is reported" "$(py reported "${MESSAGES[0]}" Action) $(py reported "${MESSAGES[0]}" Status)" "failed 5.6.3"
  expect "messages in the sink" "$(find "$CASE_DIR/sink" -type f | wc -l)" 0
}

# nsd with a zone of destinations, of which 127.0.0.22 takes mail, and Barid.
barid_and_dns() {
  local dns_port sender_port
  ORIGINAL=$CASE_DIR/original
  py make plain "$ORIGINAL"
  free_port dns_port
  free_port sender_port
  free_port DELIVERY_PORT
  nsd_start "$dns_port" interop.test <<'ZONE'
$ORIGIN interop.test.
$TTL 60
@      SOA ns postmaster 1 60 60 60 60
@      NS  ns
ns     A   127.0.0.1
mx     MX  20 live
mx     MX  10 dead
pair   MX  10 live
pair   MX  10 dead
plain  A   127.0.0.22
null   MX  0 .
live   A   127.0.0.22
dead   A   127.0.0.21
ZONE
  sink_start sink "127.0.0.22:$DELIVERY_PORT"
  sink_start sender "127.0.0.1:$sender_port"
  barid_start "[dns]
servers = [\"127.0.0.1:$dns_port\"]
[delivery]
port = $DELIVERY_PORT
allow_loopback = true
$SHORT_RETRY
$(route sender.test "$sender_port")"
}

# mx_delivers DOMAIN
mx_delivers() {
  barid_and_dns
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" "someone@$1"
  arrived "$CASE_DIR/sink" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  expect "the recipient" "$(sink_arguments "${MESSAGES[0]}" Rcpt)" "<someone@$1>"
}

# mx_bounces DOMAIN STATUS
mx_bounces() {
  barid_and_dns
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" "someone@$1"
  sender_gets_report "someone@$1" "$2"
}
