# Cases about those who hand mail to Barid: every kind of content by each of them. Sourced.
# shellcheck shell=bash

CASES+=(
  "client-swaks client swaks plaintext"
  "client-smtplib client smtplib plaintext"
  "client-msmtp client msmtp plaintext"
  "client-nodemailer client nodemailer plaintext"
  "client-postfix client postfix plaintext"
  "client-exim client exim plaintext"
)

# client NAME HOW: hands over a message of each kind; what arrives are these.
client() {
  local kind kinds=(plain eight-bit dots large)
  # swaks takes a message's last line for the end where that is a dot
  [[ $1 != swaks ]] || kinds=(plain eight-bit large)
  barid_and_sink plain
  for kind in "${kinds[@]}"; do
    ORIGINAL=$CASE_DIR/$kind
    py make "$kind" "$ORIGINAL"
    "by_$1" "$2" sender@sender.test "$kind@sink.test"
  done
  arrived "$SINK" "${#kinds[@]}"
  for kind in "${kinds[@]}"; do
    copy_for "$kind@sink.test"
    py same "$COPY" "$CASE_DIR/$kind"
    expect "the sender of $kind" "$(sink_arguments "$COPY" Mail | cut -d' ' -f1)" "<sender@sender.test>"
    came_by "$COPY" "$2"
  done
  expect "accepted messages" "$(metric barid_accepted_messages_total)" "${#kinds[@]}"
}

# copy_for RECIPIENT: the one of MESSAGES that the sink got for them; sets COPY.
copy_for() {
  local file
  for file in "${MESSAGES[@]}"; do
    [[ $(sink_arguments "$file" Rcpt | cut -d' ' -f1) == "<$1>" ]] || continue
    COPY=$file
    return
  done
  fail "nothing has arrived for $1"
}

# came_by COPY HOW: Barid's trace field says how the message came in (RFC 3848).
came_by() {
  local wanted=ESMTP
  [[ $2 == plaintext ]] || wanted=ESMTPS
  expect "the protocol in Received" "$(py protocol "$1")" "$wanted"
}
