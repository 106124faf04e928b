# Cases about signatures: what Barid signs, as dkimpy and OpenDKIM find it. Sourced.
# shellcheck shell=bash

CASES+=(
  "dkim-verified dkim_verified"
  "dkim-through-postfix dkim_through_postfix"
)

# By Debian's own Python, for which its dkimpy is.
signatures() {
  /usr/bin/python3 "$HERE/signatures.py" "$@" 2>"$CASE_DIR/python.err" || fail "$(tail -n 1 "$CASE_DIR/python.err")"
}

# Two keys of interop.test that openssl made, and their records: in $CASE_DIR/records, NAME TEXT a line, and as a
# zone on standard output.
dkim_keys() {
  local name text public
  openssl genrsa -traditional -out "$CASE_DIR/rsa.pem" 2048 2>/dev/null
  openssl genpkey -algorithm ed25519 -out "$CASE_DIR/ed25519.pem"
  : >"$CASE_DIR/records"
  # shellcheck disable=SC2016 # of the zone
  printf '$ORIGIN interop.test.\n$TTL 2\n@ SOA ns postmaster 1 60 60 60 2\n@ NS ns\nns A 127.0.0.1\n'
  for name in rsa ed25519; do
    if [[ $name == rsa ]]; then
      public=$(openssl rsa -in "$CASE_DIR/rsa.pem" -pubout -outform DER 2>/dev/null | base64 -w0)
    else
      public=$(openssl pkey -in "$CASE_DIR/ed25519.pem" -pubout -outform DER | tail -c 32 | base64 -w0)
    fi
    text="v=DKIM1; k=$name; p=$public"
    printf '%s._domainkey.interop.test %s\n' "$name" "$text" >>"$CASE_DIR/records"
    printf '%s._domainkey TXT "%s" "%s"\n' "$name" "${text:0:250}" "${text:250}"
  done
}

# dkim_start TOML: a Barid that signs everything for interop.test with both keys.
dkim_start() {
  local dns_port name
  free_port dns_port
  dkim_keys >"$CASE_DIR/zone"
  nsd_start "$dns_port" interop.test <"$CASE_DIR/zone"
  barid_start "[dkim]
fallback_domain = \"interop.test\"
[dns]
servers = [\"127.0.0.1:$dns_port\"]
$1"
  for name in rsa ed25519; do
    "$BIN_DIR/barid" dkim import interop.test "$name" "$CASE_DIR/$name.pem" --config "$CASE_DIR/barid.toml" \
      >"$CASE_DIR/$name.record" || fail "the key is not taken"
  done
  wait_for "keys that sign" metric_is barid_dkim_keys 2 'stage="active"'
  "$BIN_DIR/barid" dkim test interop.test --config "$CASE_DIR/barid.toml" || fail "the keys fail their own test"
}

# judge_signatures DIR COUNT: both verifiers, on every message in DIR; OpenDKIM looks only at those with an author.
judge_signatures() {
  local files conf=$CASE_DIR/opendkim.conf said
  expect "messages that dkimpy verified" "$(signatures dkimpy "$CASE_DIR/records" "$1")" "$2"
  printf 'Mode v\nSyslog no\nTestPublicKeys %s\n' "$CASE_DIR/records" >"$conf"
  files=("$1"/*)
  said=$(IFS=,; opendkim -x "$conf" -t "${files[*]}" 2>&1) || fail "OpenDKIM: $(grep -v succeeded <<<"$said" | head -n 1)"
  expect "messages that OpenDKIM verified" "$(grep -c 'verification (s=.*succeeded' <<<"$said")" \
    "$(signatures authored "$1")"
}

dkim_verified() {
  local port count vectors=()
  free_port port
  mkdir "$CASE_DIR"/{recorder,samples,arrived}
  start recorder python3 "$HERE/recorder.py" "127.0.0.1:$port" "$CASE_DIR/recorder"
  wait_for "the recorder" is_listening "127.0.0.1:$port"
  dkim_start "$(route sink.test "$port")"
  if [[ -n ${BARID_VECTORS-} ]]; then
    vectors=("$BARID_VECTORS"/{python-email-testdata,ruby-mail-emails})
  else
    printf 'interop: without BARID_VECTORS only messages of our own are signed\n' >&2
  fi
  count=$(signatures samples "$CASE_DIR/samples" "${vectors[@]}")
  signatures send "$BARID_PORT" s@sink.test "$CASE_DIR/samples"
  wait_for "all of them" metric_is barid_delivered_recipients_total "$count"
  expect "messages that arrived" "$(signatures received data "$CASE_DIR/recorder" "$CASE_DIR/arrived")" "$count"
  judge_signatures "$CASE_DIR/arrived" "$count"
}

dkim_through_postfix() {
  local pf_port count
  free_port pf_port
  mkdir "$CASE_DIR"/{samples,arrived}
  postfix_start postfix "$pf_port" "mailbox_size_limit = 0" "virtual_mailbox_limit = 0"
  dkim_start "$(route pf.test "$pf_port")"
  count=$(signatures samples "$CASE_DIR/samples")
  signatures send "$BARID_PORT" known@pf.test "$CASE_DIR/samples"
  wait_for "all of them" metric_is barid_delivered_recipients_total "$count"
  wait_for "all of them in the mailbox" files_are "$CASE_DIR/postfix/mail/known/new" "$count"
  expect "messages that arrived" \
    "$(signatures received maildir "$CASE_DIR/postfix/mail/known" "$CASE_DIR/arrived")" "$count"
  judge_signatures "$CASE_DIR/arrived" "$count"
}

files_are() { (($(find "$1" -type f | wc -l) == $2)); }
