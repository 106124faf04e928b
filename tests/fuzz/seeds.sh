# The first inputs of each corpus, written by hand: one of each kind that a parser knows, so that the fuzzer need
# not guess words and signatures. Octets in front of some are options and sizes of pieces (see the targets), of three
# octal digits each: digits may follow.

# Writes what printf makes of each argument behind the first into a file of its own: $1-1, $1-2 and so on.
plant() {
  local name=$1 at=0 input
  shift
  for input in "$@"; do
    at=$((at + 1))
    # shellcheck disable=SC2059 # the input is the format: it holds escapes
    printf -- "$input" >"$name-$at"
  done
}

# The same, each input behind the octets given second.
plant_behind() {
  local name=$1 head=$2
  shift 2
  plant "$name" "${@/#/$head}"
}

seeds() {
  "seeds_of_$1" "$2"
}

seeds_of_address() {
  plant "$1/seed" 'Ann.Lee@Example.NET' '"a@b\\" c>"@example.net' 'zoë@Bücher.example' 'a+tag!#$%%&@[192.0.2.1]' \
    'a@[IPv6:2001:db8::1]' 'example.net.' '[127.0.0.1]' '[ipv6:::ffff:192.0.2.1]' '_dmarc.xn--bcher-kva.example' \
    'a@ü.ü.ü.ü.ü.ü.ü.ü.ü.ü.ü.ü.ü.ü.example' 'a@ß。example'
}

seeds_of_xtext() {
  plant "$1/seed" 'QQ314+2B159' 'rfc822;ann+40b@c.example' 'utf-8;zo\\x{EB}@c.example' 'utf-8;zoë@c.example' NEVER \
    SUCCESS,FAILURE,DELAY '5.1.1 no such user' '4.7.650' 'rfc822;a+0D+0Ab@c.example'
}

seeds_of_command() {
  plant "$1/seed" 'EHLO client.example' 'helo [192.0.2.1]' 'MAIL FROM:<> SIZE=77 BODY=8BITMIME MT-PRIORITY=-4' \
    'MAIL FROM:<@x.example,@y.example:a@b.example>' 'mail from: <zoë@bücher.example> SMTPUTF8 RET=HDRS ENVID=Q+2B1' \
    'RCPT TO:<"a> b"@c.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list@c.example' 'RCPT TO:<Postmaster>' \
    'RCPT TO:<zoë@b.example> NOTIFY=NEVER ORCPT=utf-8;zoë@b.example' 'BDAT 86 LAST' 'BDAT 99999999999999999999' \
    DATA STARTTLS RSET 'NOOP x' HELP 'VRFY ann SMTPUTF8' QUIT 'GET / HTTP/1.1' 'MAIL FROM:<a@b.example> BODY=7BIT RET=FULL'
}

seeds_of_reply() {
  plant_behind "$1/seed" '\000\004\020' '250 ok\r\n' '220 hi ESMTP\r\n250-them\r\n250-SIZE 1000\r\n250 PIPELINING\r\n' \
    '550-5.1.1 The account\r\n550-5.1.1 does not\r\n550 5.1.1 exist\r\n' '421 4.7.0 go\a away\n' '354\r\n' \
    '451 4.7.1 Greylisted, try again in 300 seconds\r\n450 grey list, in 5 minutes\r\n450 graylisted 00:05:00\r\n' \
    '250-a\r\n550 b\r\n' '250_a\r\n' '552 zoë \377\r\n'
}

seeds_of_content() {
  plant_behind "$1/seed" '\024\000\001\007' 'Subject: x\r\n\r\nhi\r\n..\r\n.\r\n' '.\r\n' 'a\n.\r\nb\r\n.\r\n' 'a\r\n.\nb\r\n.\r\n' \
    'a\r.\r\n.\r\n' 'a\r\r\n.\r\n' 'a\0b\r\n.\r\n' 'a\r\n.\r' '..a\r\n.b\r\n...\r\n.\r\n'
  local into=$1 seed
  for seed in "$into"/seed-*; do
    # the same with line ends mended
    { printf '\025\000\001\007' && tail -c +5 "$seed"; } >"$into/mended-${seed##*/}"
  done
}

seeds_of_server() {
  local hello='EHLO c.example\r\n' mail='MAIL FROM:<a@b.example> SIZE=9\r\n' rcpt='RCPT TO:<c@d.example>\r\n'
  plant_behind "$1/seed" '\010\000\000\000\002\020' \
    "$hello$mail${rcpt}RCPT TO:<Postmaster>\r\nDATA\r\nhi\r\n..\r\n.\r\nQUIT\r\n" \
    "$hello$mail${rcpt}BDAT 4\r\nhi\r\nBDAT 2 LAST\r\n\r\nRSET\r\n" \
    "${hello}STARTTLS\r\n${hello}MAIL FROM:<zoë@b.example> SMTPUTF8\r\nRCPT TO:<zoë@d.example> NOTIFY=NEVER\r\nRSET\r\n" \
    "HELO c\r\nVRFY x\r\nHELP\r\nNOOP\r\nDATA\r\nBDAT 3\r\nabc$mail${mail}DATA\r\n${rcpt}DATA\r\nhi\n.\r\nx\r\n.\r\n" \
    "$hello$mail${rcpt}BDAT 0\r\nBDAT 3\r\na\nbBDAT 1 LAST\r\nx${mail}NOOP\r\n" \
    'BREW coffee\r\nMAIL FROM:<>\r\nEHLO\r\nGET / HTTP/1.1\r\n' 'NOOP\nQUIT\r\n' \
    "$hello$mail$rcpt${rcpt}RCPT TO:<x@y.example>\r\n${hello}BDAT 99999\r\n"
  local into=$1 seed
  for seed in "$into"/seed-*; do
    # the same within tight limits, with line ends mended, and a host that refuses now and then
    { printf '\005\004\040\001\002\020' && tail -c +7 "$seed"; } >"$into/tight-${seed##*/}"
  done
}

seeds_of_client() {
  local hello='220 hi\r\n250-them\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-MT-PRIORITY\r\n'
  plant_behind "$1/seed" '\002\320\056\002\020' \
    "${hello}250 SIZE 2000000\r\n250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n250 done\r\n250 ok\r\n250 ok\r\n452 later\r\n" \
    "${hello}250-CHUNKING\r\n250 LIMITS RCPTMAX=2 MAILMAX=3\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 done\r\n250 ok\r\n" \
    '220 hi\r\n502 what\r\n250 hi\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n250 done\r\n221 bye\r\n' \
    '220-hi\r\n220 there\r\n250 them\r\n250 ok\r\n421 4.7.0 bye\r\n' '554 go away\r\n' \
    "${hello}250 x\r\n554 no\r\n503 no\r\n503 no\r\n503 no\r\n250 reset\r\n250 ok\r\n550 no\r\n550 no\r\n354 go\r\n250 ok\r\n"
  plant_behind "$1/tls" '\003\021\000\002\020' \
    '220 hi\r\n250-them\r\n250-CHUNKING\r\n250 STARTTLS\r\n220 go\r\n250-them\r\n250 PIPELINING\r\n250 ok\r\n'
  plant_behind "$1/hurry" '\002\020\000\002\020' \
    '220 hi\r\n250-them\r\n250-PIPELINING\r\n250 CHUNKING\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 done\r\n250 ok\r\n250 ok\r\n250 done\r\n'
}

seeds_of_proxy() {
  local signature='\r\n\r\n\0\r\nQUIT\n' v4='\300\0\2\1\306\63\144\7\300\1\0\31'
  local v6='\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\2\300\1\0\31'
  plant_behind "$1/seed" "$signature" "\41\21\0\14${v4}EHLO a\r\n" "\41\41\0\44$v6" '\40\0\0\0' "\41\21\0\22$v4\2\0\3a.b" \
    '\41\61\0\2ab' '\21\21\0\0' '\42\21\0\0' '\41\21\20\0'
}

seeds_of_bounce() {
  local from='From: Mail Delivery Subsystem <MAILER-DAEMON@r.example>\nReturn-Path: <>\n'
  local report="${from}Subject: Undelivered mail\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\n\n"
  local original='--b\nContent-Type: message/rfc822\n\nMessage-ID: <1@s.example>\nTo: x@y.example\n\nhi\n--b--\n'
  local fields='--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; r.example\nOriginal-Envelope-Id: E\n'
  local plain='Content-Type: text/plain\n\n'
  plant "$1/seed" \
    "$report--b\n\nno such user\n${fields}X-Barid-Queue-ID: Q\n\nFinal-Recipient: rfc822; x@y.example\nOriginal-Recipient: rfc822; a@y.example\nAction: failed\nStatus: 5.0.0\nRemote-MTA: dns; mx.y.example\nDiagnostic-Code: smtp; 550 5.2.2 mailbox is full\n\n$original" \
    "$report--b\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<p>x=40y.example: 452&nbsp;4.7.0 try later</p>\n$fields\nFinal-Recipient: rfc822; x@y.example\nAction: delayed\nStatus: 4.4.1\n\nFinal-Recipient: utf-8; zo\\\\x{EB}@y.example\nAction: delivered\n\n$original" \
    "${from}Subject: failure notice\n\nHi. This is the qmail-send program at r.example.\nI'm afraid I wasn't able to deliver your message to the following addresses.\n\n<x@y.example>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 no such user\nGiving up on 192.0.2.1.\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <a@s.example>\nMessage-ID: <1@s.example>\n" \
    "${from}X-Failed-Recipients: x@y.example, z@y.example\nSubject: Mail delivery failed: returning message to sender\n\nA message that you sent could not be delivered to one or more of its recipients.\n\n  x@y.example\n    SMTP error from remote mail server after RCPT TO:<x@y.example>:\n    host mx.y.example [192.0.2.1]: 550 unknown user\n" \
    "${from}Subject: =?UTF-8?B?VW56dXN0ZWxsYmFy?= =?ISO-8859-1?Q?zo=EB?=\nContent-Transfer-Encoding: base64\n${plain}PHhAeS5leGFtcGxlPjogNTUwIDUuMS4xIHVua25vd24K" \
    'Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n--b--\n' \
    "${from}Subject: Delivery status: delayed\nTo: a@s.example\n\nThe mail system is still trying to deliver your message to x@y.example; it will retry.\n" \
    'From: ann@s.example\nSubject: lunch\n\nAt one?\n'
  local seed
  for seed in "$1"/seed-*; do
    sed 's/$/\r/' "$seed" >"$1/crlf-${seed##*/}"
  done
}

# behind four sizes of pieces
seeds_of_signing() {
  plant_behind "$1/seed" '\003\001\010\000' \
    'From: Ann <ann@a.example>\r\nTo: b@b.example\r\nSubject: x\r\n\ty\r\nDate: d\r\n\r\nHi.\r\n\r\n  two \r\n\r\n' \
    'from : =?utf-8?q?x?= (c) <a@b.example>, c@d\r\nList-Unsubscribe: <u>\r\nMIME-Version: 1.0\r\n\r\n' \
    'Cc: \r\nCc: a\r\nContent-Type: t/p;\r\n  charset=x\r\n\r\n \r\n\t\r\n' '\r\n\r\n' 'no header'
}
