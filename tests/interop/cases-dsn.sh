# Cases about notifications (RFC 3461): what a sender asks for is passed on, or done. Sourced.
# shellcheck shell=bash

LATER+=(
  "dsn-passed-on-smtplib dsn_passed_on dsn_by_smtplib"
  "dsn-passed-on-nodemailer dsn_passed_on dsn_by_nodemailer"
  "dsn-passed-on-msmtp dsn_passed_on_msmtp"
  "dsn-passed-on-postfix dsn_passed_on dsn_by_postfix rfc822;someone@sink.test"
  "dsn-success-by-postfix dsn_success_by_postfix"
  "dsn-relayed dsn_relayed"
  "dsn-relayed-not-asked dsn_silent NOTIFY=FAILURE,DELAY -N"
  "dsn-never dsn_silent NOTIFY=NEVER -f RCPT"
  "dsn-success-alone dsn_silent NOTIFY=SUCCESS -f RCPT"
  "dsn-full dsn_failed FULL"
  "dsn-headers dsn_failed HDRS"
  "dsn-each-recipient dsn_each_recipient"
  "dsn-delay dsn_delay"
  "dsn-delay-not-asked dsn_delay_not_asked"
)
CASES+=("delay-told delay_told")

# all in xtext (RFC 3461 4): + and = in what they mean
readonly ENVID=QQ+2B314 ENVID_MEANS=QQ+314
readonly ORCPT='rfc822;old+2Bname@old.test' ORCPT_MEANS='rfc822;old+name@old.test'

# barid_and_two_sinks OPTION...: a sink for sink.test with options, one for the sender, and a Barid with
# DELIVERY settings.
barid_and_two_sinks() {
  local port sender_port
  ORIGINAL=$CASE_DIR/original
  py make plain "$ORIGINAL"
  free_port port
  free_port sender_port
  sink_start sink "127.0.0.1:$port" "$@"
  sink_start sender "127.0.0.1:$sender_port"
  barid_start "[delivery]
$SHORT_RETRY
${DELIVERY-}
$(route sink.test "$port")
$(route sender.test "$sender_port")"
}

# ask MAIL-OPTIONS RCPT-OPTIONS: a message to someone@sink.test.
ask() { py send_dsn "$BARID_PORT" sender@sender.test "$1" "$ORIGINAL" someone@sink.test "$2"; }

dsn_by_smtplib() { ask "RET=HDRS ENVID=$ENVID" "NOTIFY=SUCCESS,FAILURE ORCPT=$ORCPT"; }

dsn_by_nodemailer() {
  DSN='{"id": "QQ+314", "return": "headers", "notify": ["success", "failure"], "recipient": "old+name@old.test"}' \
    by_nodemailer plaintext sender@sender.test someone@sink.test
}

# Postfix's own sendmail, for which ORCPT is the address that it was given.
dsn_by_postfix() {
  free_port POSTFIX_PORT
  postfix_start postfix "$POSTFIX_PORT" "relayhost = [127.0.0.1]:$BARID_PORT"
  tr -d '\r' <"$ORIGINAL" |
    sendmail -C "$CASE_DIR/postfix/etc" -f sender@sender.test -N success,failure -R hdrs -V "$ENVID_MEANS" someone@sink.test
}

# dsn_passed_on BY [ORCPT]: the next server, which knows DSN, is told all of it.
dsn_passed_on() {
  barid_and_sink plain
  "$1"
  arrived "$SINK" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  said Mail RET=HDRS "ENVID=$ENVID"
  said Rcpt NOTIFY=SUCCESS,FAILURE "ORCPT=${2-$ORCPT}"
}

# said COMMAND WORD...: behind its address it has these words, in any order.
said() {
  local word arguments
  arguments=" $(sink_arguments "${MESSAGES[0]}" "$1") "
  for word in "${@:2}"; do
    [[ ${arguments^^} == *" ${word^^} "* ]] || fail "$1 has no $word: $arguments"
  done
}

# It knows no ENVID and no ORCPT.
dsn_passed_on_msmtp() {
  barid_and_sink plain
  by_msmtp plaintext sender@sender.test someone@sink.test -- --dsn-notify=success,failure --dsn-return=full
  arrived "$SINK" 1
  said Mail RET=FULL
  said Rcpt NOTIFY=SUCCESS,FAILURE
}

# A Postfix that knows DSN reports by itself: Barid must not, and says whose message it was.
dsn_success_by_postfix() {
  ORIGINAL=$CASE_DIR/original
  py make plain "$ORIGINAL"
  barid_and postfix
  py send_dsn "$BARID_PORT" sender@pf.test "ENVID=$ENVID" "$ORIGINAL" known@pf.test "NOTIFY=SUCCESS ORCPT=$ORCPT"
  in_mailbox known
  in_mailbox sender
  expect "Reporting-MTA" "$(py reported "${MESSAGES[0]}" Reporting-MTA)" "dns; postfix.interop.test"
  expect "Action" "$(py reported "${MESSAGES[0]}" Action)" delivered
  what_was_asked "${MESSAGES[0]}"
  barid_wrote 0
}

# barid_wrote COUNT: how many reports, when the queue is empty.
barid_wrote() {
  wait_for "an empty queue" metric_is barid_queued_messages 0
  # each report was delivered like the one message that they are about, or that had a bounce
  local ended=$(($(metric barid_delivered_recipients_total) + $(metric barid_bounced_recipients_total)))
  expect "reports" "$((ended - 1))" "$1"
}

# what_was_asked REPORT: it gives ENVID and ORCPT back, no longer in xtext.
what_was_asked() {
  expect "Original-Envelope-Id" "$(py reported "$1" Original-Envelope-Id)" "$ENVID_MEANS"
  expect "Original-Recipient" "$(py reported "$1" Original-Recipient | tr -d ' ')" "$ORCPT_MEANS"
}

# The next server knows no DSN: the sender hears that it went there, and that this is all.
dsn_relayed() {
  barid_and_two_sinks -N
  ask "RET=FULL ENVID=$ENVID" "NOTIFY=SUCCESS ORCPT=$ORCPT"
  arrived "$CASE_DIR/sink" 1
  expect "MAIL" "$(sink_arguments "${MESSAGES[0]}" Mail | grep -oE 'RET=|ENVID=' || true)" ""
  expect "RCPT" "$(sink_arguments "${MESSAGES[0]}" Rcpt)" "<someone@sink.test>"
  arrived "$CASE_DIR/sender" 1
  # only a failure gives back more than the header, whatever RET says (RFC 3461 4.3)
  py report "${MESSAGES[0]}" "$ORIGINAL" someone@sink.test 2.0.0 relayed
  what_was_asked "${MESSAGES[0]}"
  expect "the report's sender" "$(sink_arguments "${MESSAGES[0]}" Mail | cut -d' ' -f1)" "<>"
  barid_wrote 1
}

# dsn_silent NOTIFY SINK-OPTION...: nobody asked for what happens.
dsn_silent() {
  barid_and_two_sinks "${@:2}"
  ask "" "$1"
  wait_for "the end of it" ended 1
  barid_wrote 0
  expect "reports" "$(find "$CASE_DIR/sender" -type f | wc -l)" 0
}

ended() { (($(metric barid_delivered_recipients_total) + $(metric barid_bounced_recipients_total) >= $1)); }

# dsn_failed FULL|HDRS
dsn_failed() {
  local full=
  [[ $1 == HDRS ]] || full=full
  barid_and_two_sinks -f RCPT
  ask "RET=$1 ENVID=$ENVID" "NOTIFY=FAILURE ORCPT=$ORCPT"
  arrived "$CASE_DIR/sender" 1
  py report "${MESSAGES[0]}" "$ORIGINAL" someone@sink.test 5.3.0 failed $full
  what_was_asked "${MESSAGES[0]}"
  # a report asks for none of itself
  expect "the report's recipient" "$(sink_arguments "${MESSAGES[0]}" Rcpt | sed 's/ NOTIFY=NEVER$//')" "<sender@sender.test>"
  barid_wrote 1
}

# Four recipients of one message are refused; the report names the two who asked.
dsn_each_recipient() {
  barid_and_two_sinks -f RCPT
  py send_dsn "$BARID_PORT" sender@sender.test "" "$ORIGINAL" never@sink.test NOTIFY=NEVER failure@sink.test NOTIFY=FAILURE \
    success@sink.test NOTIFY=SUCCESS unsaid@sink.test ""
  arrived "$CASE_DIR/sender" 1
  expect "who is reported" "$(py reported "${MESSAGES[0]}" Final-Recipient | grep -o '[a-z]*@' | sort | xargs)" "failure@ unsaid@"
  expect "Action" "$(py reported "${MESSAGES[0]}" Action)" "failed failed"
  expect "bounced recipients" "$(metric barid_bounced_recipients_total)" 4
}

# Who says nothing is told of a delay.
delay_told() {
  local DELIVERY='delay_notice = "1s"'
  barid_and_two_sinks -r RCPT
  py send "$BARID_PORT" sender@sender.test "$ORIGINAL" someone@sink.test
  delay_is_told
}

delay_is_told() {
  arrived "$CASE_DIR/sender" 1
  py report "${MESSAGES[0]}" "$ORIGINAL" someone@sink.test 4.3.0 delayed
  [[ -n $(py reported "${MESSAGES[0]}" Will-Retry-Until) ]] || fail "it does not say how long it is tried"
}

dsn_delay() {
  local DELIVERY='delay_notice = "1s"'
  barid_and_two_sinks -r RCPT
  ask "ENVID=$ENVID" "NOTIFY=DELAY ORCPT=$ORCPT"
  delay_is_told
  what_was_asked "${MESSAGES[0]}"
}

# Three attempts, long after a delay would have been told.
dsn_delay_not_asked() {
  local DELIVERY='delay_notice = "1s"'
  barid_and_two_sinks -r RCPT
  ask "" "NOTIFY=FAILURE"
  wait_for "three attempts" metric_reached barid_deferred_recipients_total 3
  expect "reports" "$(find "$CASE_DIR/sender" -type f | wc -l)" 0
}
