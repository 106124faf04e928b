# Cases about addresses beyond ASCII (SMTPUTF8, RFC 6531), and what else a server offers. Sourced.
# shellcheck shell=bash

LATER+=(
  "utf8-smtplib utf8 utf8_by_smtplib"
  "utf8-nodemailer utf8 by_nodemailer plaintext"
  "utf8-postfix utf8_by_postfix"
  "utf8-refused-without utf8_refused_without"
  "extensions extensions"
  "chunks-exim chunks_exim"
)

readonly UTF8_MAILBOX=δοκιμή@pf.test

utf8_by_smtplib() { py send_utf8 "$BARID_PORT" "$1" "$ORIGINAL" "${@:2}"; }

# A Postfix with a mailbox whose name is Greek, a Barid, and a message with such a header.
barid_and_greek() {
  ORIGINAL=$CASE_DIR/original
  py make utf8 "$ORIGINAL"
  barid_and postfix "virtual_mailbox_maps = inline:{ {$UTF8_MAILBOX=known/} {sender@pf.test=sender/} }"
}

# utf8 BY...: a client that says SMTPUTF8.
utf8() {
  barid_and_greek
  "$@" грета@sender.test "$UTF8_MAILBOX"
  greek_has_it
}

greek_has_it() {
  in_mailbox known
  py same "${MESSAGES[0]}" "$ORIGINAL"
  expect "the sender" "$(sed -n 's/^Return-Path: //p' "${MESSAGES[0]}")" "<грета@sender.test>"
  # RFC 6531 4.3
  expect "the protocol in Received" "$(py protocol "${MESSAGES[0]}")" UTF8SMTP
  expect_match "what Postfix got" "$(py received "${MESSAGES[0]}")" 'with UTF8SMTP '
}

# Another Postfix in between.
utf8_by_postfix() {
  barid_and_greek
  free_port POSTFIX_PORT
  postfix_start between "$POSTFIX_PORT" "relayhost = [127.0.0.1]:$BARID_PORT" \
    "virtual_mailbox_domains ="
  py send_utf8 "$POSTFIX_PORT" грета@sender.test "$ORIGINAL" "$UTF8_MAILBOX"
  greek_has_it
}

# A destination without SMTPUTF8 cannot have it: the sender hears so (RFC 6531 3.5, 5.6.7 of RFC 5248).
utf8_refused_without() {
  local sender_port
  free_port sender_port
  sink_start sender "127.0.0.1:$sender_port"
  barid_and_sink utf8 "$(route sender.test "$sender_port")"
  py send_utf8 "$BARID_PORT" sender@sender.test "$ORIGINAL" δοκιμή@sink.test
  arrived "$CASE_DIR/sender" 1
  expect "what is reported" "$(py reported "${MESSAGES[0]}" Action) $(py reported "${MESSAGES[0]}" Status)" "failed 5.6.7"
  expect "the report's recipient" "$(sink_arguments "${MESSAGES[0]}" Rcpt)" "<sender@sender.test>"
  expect "messages in the sink" "$(find "$SINK" -type f | wc -l)" 0
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

extensions() {
  local offered word
  barid_and_sink plain
  offered=$(py extensions "$BARID_PORT")
  for word in PIPELINING 'SIZE 52428800' 8BITMIME SMTPUTF8 CHUNKING DSN 'LIMITS RCPTMAX=1000' ENHANCEDSTATUSCODES STARTTLS; do
    grep -qx "$word" <<<"$offered" || fail "EHLO does not offer $word"
  done
}

# Exim says of each delivery whether it used chunks.
chunks_exim() {
  client exim plaintext
  expect "deliveries in chunks" "$(grep -c ' => .* K C="250 ' "$CASE_DIR/exim/log/main")" 4
}
