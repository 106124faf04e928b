# Cases about destinations that are whole mail servers: Postfix, Exim, OpenSMTPD. Sourced.
#
# Each has mailboxes known@DOMAIN and sender@DOMAIN, and refuses everybody else there.
# shellcheck shell=bash

CASES+=(
  "to-postfix to_peer postfix"
  "to-postfix-refused to_peer_refused postfix 5.1.1"
  "to-exim to_peer exim"
  "to-exim-refused to_peer_refused exim 5.0.0"
  "to-opensmtpd to_peer opensmtpd"
  "to-opensmtpd-refused to_peer_refused opensmtpd 5.0.0"
  "greylisting-postgrey greylisting_postgrey"
  "blocked-by-postfix blocked_by_postfix"
)

# barid_and PEER [OPTION]...: the peer, set up with the options, and a Barid with a route to it; sets
# PEER_DOMAIN and MAILBOXES.
barid_and() {
  local peer=$1
  shift
  free_port PEER_PORT
  case $peer in
    postfix) PEER_DOMAIN=pf.test && postfix_start postfix "$PEER_PORT" "$@" ;;
    exim) PEER_DOMAIN=exim.test && exim_start "$PEER_PORT" "$@" ;;
    opensmtpd) PEER_DOMAIN=osmtpd.test && opensmtpd_start "$PEER_PORT" "$@" ;;
  esac
  MAILBOXES=$CASE_DIR/$peer/mail
  barid_start "[delivery]
$SHORT_RETRY
$(route "$PEER_DOMAIN" "$PEER_PORT")"
}

# in_mailbox NAME: waits for one message in a Maildir; sets MESSAGES.
in_mailbox() {
  wait_for "mail for $1" compgen -G "$MAILBOXES/$1/new/*"
  MESSAGES=("$MAILBOXES/$1/new"/*)
  expect "messages for $1" "${#MESSAGES[@]}" 1
}

# Messages of every kind, and that they are in the mailbox of known as they were.
readonly KINDS=(plain eight-bit dots large)

send_kinds() {
  local kind
  for kind in "${KINDS[@]}"; do
    py make "$kind" "$CASE_DIR/$kind"
    py send "$BARID_PORT" sender@sender.test "$CASE_DIR/$kind" "known@$PEER_DOMAIN"
  done
}

same_kinds() {
  local kind
  for kind in "${KINDS[@]}"; do
    copy_of "$kind"
    py same "$COPY" "$CASE_DIR/$kind"
  done
}

# to_peer PEER [OPTION]...: messages of every kind reach a mailbox as they were.
to_peer() {
  barid_and "$@"
  send_kinds
  wait_for "the deliveries" metric_is barid_delivered_recipients_total "${#KINDS[@]}"
  wait_for "the mail" mailbox_has known "${#KINDS[@]}"
  same_kinds
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

# Postfix has the relay's address on a blocklist: nothing bounces, all of it is held, and released when it is off the list.
blocked_by_postfix() {
  local reason
  barid_and postfix \
    "smtpd_client_restrictions = check_client_access inline:{ {127.0.0.1 = REJECT blocked using bl.interop.test} }"
  send_kinds
  wait_for "all of it held" metric_is barid_receivers_closed 1 'closure="block"'
  wait_for "all of it held" all_held "${#KINDS[@]}"
  reason=$(queue_reasons)
  expect "messages that bounced" "$(metric barid_bounced_recipients_total)" 0
  sed -i '/^smtpd_client_restrictions/d' "$CASE_DIR/postfix/etc/main.cf"
  postfix -c "$CASE_DIR/postfix/etc" reload || fail "Postfix does not reload"
  "$BIN_DIR/barid" queue release --reason "$reason" --config "$CASE_DIR/barid.toml" || fail "nothing is released"
  wait_for "the mail" mailbox_has known "${#KINDS[@]}"
  same_kinds
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

# queue_reasons: why messages are held, each reason once.
queue_reasons() {
  "$BIN_DIR/barid" queue ls --json --config "$CASE_DIR/barid.toml" | grep -o '"reason":"block:[^"]*"' |
    sed 's/^"reason":"//; s/"$//' | sort -u
}

# all_held NUMBER: whether so many messages are held for a block.
all_held() {
  [[ $("$BIN_DIR/barid" queue ls --json --config "$CASE_DIR/barid.toml" | grep -c '"reason":"block:') == "$1" ]]
}

mailbox_has() { [[ $(compgen -G "$MAILBOXES/$1/new/*" | wc -l) == "$2" ]]; }

# copy_of KIND: the copy in the mailbox of known; sets COPY.
copy_of() { COPY=$(grep -l "^Subject: interop $1\$" "$MAILBOXES"/known/new/*) || fail "no $1 message has arrived"; }

# to_peer_refused PEER STATUS: of two recipients one is unknown: the other gets the mail, and the
# sender a report that gives the peer's status.
to_peer_refused() {
  ORIGINAL=$CASE_DIR/original
  barid_and "$1"
  py make plain "$ORIGINAL"
  py send "$BARID_PORT" "sender@$PEER_DOMAIN" "$ORIGINAL" "unknown@$PEER_DOMAIN" "known@$PEER_DOMAIN"
  in_mailbox known
  py same "${MESSAGES[0]}" "$ORIGINAL"
  in_mailbox sender
  py report "${MESSAGES[0]}" "$ORIGINAL" "unknown@$PEER_DOMAIN" "$2"
  expect "the report's sender" "$(return_path "$1" "${MESSAGES[0]}")" "<>"
  expect "bounced recipients" "$(metric barid_bounced_recipients_total)" 1
  expect "delivered recipients" "$(metric barid_delivered_recipients_total)" 2
  wait_for "an empty queue" metric_is barid_queued_messages 0
}

# return_path PEER FILE: the envelope sender of the mail in sender's mailbox.
return_path() {
  if [[ $1 == opensmtpd ]]; then
    # it tells only its log
    sed -n 's/.* smtp envelope .*from=\(<[^>]*>\) to=<sender@.*/\1/p' "$CASE_DIR/opensmtpd.log"
  else
    sed -n 's/^Return-[Pp]ath: //p' "$2"
  fi
}

greylisting_postgrey() {
  local postgrey_port
  free_port postgrey_port
  postgrey_start "$postgrey_port" 2
  ORIGINAL=$CASE_DIR/original
  py make plain "$ORIGINAL"
  barid_and postfix \
    "smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:$postgrey_port, permit"
  py send "$BARID_PORT" sender@pf.test "$ORIGINAL" known@pf.test
  in_mailbox known
  py same "${MESSAGES[0]}" "$ORIGINAL"
  grep -q '^X-Greylist: delayed ' "${MESSAGES[0]}" || fail "postgrey did not delay it"
  (($(metric barid_deferred_recipients_total) > 0)) || fail "nothing was put off"
}
