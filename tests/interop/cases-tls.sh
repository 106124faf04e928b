# Cases about STARTTLS, both ways. Sourced.
# shellcheck shell=bash

LATER+=(
  "tls-swaks client swaks tls"
  "tls-smtplib client smtplib tls"
  "tls-msmtp client msmtp tls"
  "tls-nodemailer client nodemailer tls"
  "tls-postfix client postfix tls"
  "tls-exim client exim tls"
  "tls-versions tls_versions"
  "tls-certificate-of-client certificate_of_client"
  "tls-certificate-foreign-sender certificate_refused 23 foreign.test client"
  "tls-certificate-unknown certificate_refused . cert.test stranger"
  "tls-certificate-missing certificate_refused . cert.test"
  "tls-to-postfix tls_to postfix TLSv1.3"
  "tls-to-postfix-1.2 tls_to postfix TLSv1.2"
  "tls-to-exim tls_to exim TLS1.3"
  "tls-to-opensmtpd tls_to_opensmtpd"
  "tls-to-nobody-454 tls_falls_back 454"
  "tls-to-too-old tls_falls_back old"
)

# make_certificate NAME: signed by itself, for NAME.interop.test, in NAME.pem and NAME.key.
make_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1.interop.test" \
    -keyout "$CASE_DIR/$1.key" -out "$CASE_DIR/$1.pem" || fail "openssl makes no certificate"
}

# A certificate is known by the SHA-256 of its DER form.
fingerprint() { openssl x509 -in "$CASE_DIR/$1.pem" -outform DER | sha256sum | cut -d' ' -f1; }

# handshake OPTION...: what openssl finds when it asks Barid for STARTTLS.
handshake() {
  openssl s_client -connect "127.0.0.1:$BARID_PORT" -starttls smtp -name client.sender.test "$@" </dev/null 2>&1 || true
}

# TLS 1.2 and 1.3, nothing older; the certificate that Barid made for itself bears its name.
tls_versions() {
  barid_and_sink plain
  expect_match "with TLS 1.3" "$(handshake -tls1_3)" 'New, TLSv1\.3, Cipher is TLS_'
  expect_match "with TLS 1.2" "$(handshake -tls1_2)" 'New, TLSv1\.2, Cipher is ECDHE'
  expect_match "with TLS 1.1" "$(handshake -tls1_1 -cipher DEFAULT:@SECLEVEL=0)" 'New, \(NONE\), Cipher is \(NONE\)'
  expect_match "the names" "$(handshake | openssl x509 -noout -ext subjectAltName)" 'DNS:barid\.interop\.test'
}

# A sink, and a Barid with a client that is known by its certificate, wherever it comes from.
barid_and_certificate() {
  make_certificate client
  barid_and_sink plain "[[client]]
name = \"certified\"
certificates = [\"$(fingerprint client)\"]
sender_domains = [\"cert.test\"]"
}

# swaks_certified DOMAIN [CERTIFICATE]: from an address that is no client's.
swaks_certified() {
  local options=()
  [[ -z ${2-} ]] || options=(--tls-cert "$CASE_DIR/$2.pem" --tls-key "$CASE_DIR/$2.key")
  swaks_send "sender@$1" someone@sink.test --local-interface 127.0.0.2 -tls "${options[@]}"
}

certificate_of_client() {
  barid_and_certificate
  swaks_certified cert.test client
  arrived "$SINK" 1
  py same "${MESSAGES[0]}" "$ORIGINAL"
  came_by "${MESSAGES[0]}" tls
  expect "certified's messages" "$(metric barid_accepted_messages_total 'client="certified"')" 1
}

# certificate_refused STATUS DOMAIN [CERTIFICATE]: the status of swaks is a regular expression: where a
# stranger is refused is not told.
certificate_refused() {
  local status=0 said
  barid_and_certificate
  make_certificate stranger
  said=$(swaks_certified "${@:2}") || status=$?
  printf '%s\n' "$said"
  ((status > 0)) || fail "the mail was taken"
  expect_match "swaks' exit status" "$status" "$1"
  expect_match "the reply" "$(grep '^<[-~*]\*' <<<"$said" | tail -n 1)" '^<.\* *5[0-9][0-9] [0-9. ]*'
  expect "accepted messages" "$(metric barid_accepted_messages_total)" 0
}

# tls_to PEER VERSION: a peer whose certificate nobody vouches for; all arrives encrypted all the same,
# and all three say so: the peer's trace field, Barid's log, Barid's metrics.
tls_to() {
  local options file
  make_certificate peer
  case $1 in
    postfix) postfix_tls "$2" ;;
    exim) options=("tls_advertise_hosts = *" "tls_certificate = $CASE_DIR/peer.pem" "tls_privatekey = $CASE_DIR/peer.key") ;;
  esac
  # Exim reads them as nobody in particular
  chmod 644 "$CASE_DIR/peer.key"
  to_peer "$1" "${options[@]}"
  for file in "$MAILBOXES"/known/new/*; do
    expect_match "what $1 says" "$(py received "$file")" "${2//./\\.}"
  done
  barid_says_tls 4
}

# postfix_tls VERSION [LINE]...: sets options, for a Postfix that speaks this version alone.
postfix_tls() {
  options=("smtpd_tls_security_level = may" "smtpd_tls_cert_file = $CASE_DIR/peer.pem" "smtpd_tls_key_file = $CASE_DIR/peer.key"
    "smtpd_tls_received_header = yes" "smtpd_tls_loglevel = 1" "smtpd_tls_protocols = $1" "${@:2}")
}

# barid_says_tls COUNT: of how many deliveries Barid's log says that they were encrypted.
barid_says_tls() {
  expect "deliveries by TLS in Barid's log" "$(grep -c 'event=delivered .* tls=TLSv1' "$CASE_DIR/barid.log" || true)" "$1"
}

# OpenSMTPD of Debian 12 offers STARTTLS, but cannot sign with OpenSSL 3 (OpenSMTPD issue 1171): every
# handshake fails. Later ones can. Mail has to arrive either way, encrypted if that is possible.
tls_to_opensmtpd() {
  local file
  make_certificate peer
  chmod 600 "$CASE_DIR/peer.key"
  to_peer opensmtpd tls pki peer
  if grep -q 'reason="io-error: error:.*EVP lib' "$CASE_DIR/opensmtpd.log"; then
    barid_says_tls 0
    return
  fi
  for file in "$MAILBOXES"/known/new/*; do
    expect_match "what OpenSMTPD says" "$(py received "$file")" 'with ESMTPS .*TLSv1'
  done
  barid_says_tls 4
}

# tls_falls_back 454|old: a Postfix that offers STARTTLS, but has lost its certificate and says so, or
# speaks no version that may still be spoken. It is asked, and then gets the mail without.
tls_falls_back() {
  local options file
  make_certificate peer
  case $1 in
    454) postfix_tls TLSv1.3 "smtpd_tls_cert_file = $CASE_DIR/lost.pem" ;;
    old) postfix_tls TLSv1 ;;
  esac
  to_peer postfix "${options[@]}"
  for file in "$MAILBOXES"/known/new/*; do
    expect_match "what Postfix says" "$(py received "$file")" 'with ESMTP id'
  done
  # what it counts when a session ends
  wait_for "Postfix to be asked for TLS" grep -q ' starttls=0/1' "$CASE_DIR/postfix/mail.log"
  barid_says_tls 0
}
