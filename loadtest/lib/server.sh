# The server under test, whichever it is. Sourced.
# shellcheck shell=bash

# server_do ACTION SERVER: prepare, start, alive or ready.
server_do() {
  local root=$RUN/root
  case $1-$2 in
    prepare-postfix-*) postfix_prepare "${2#postfix-}" "$root" ;;
    start-postfix-*) postfix_start >"$RUN/server.log" 2>&1 ;;
    alive-postfix-*) postfix_alive ;;
    ready-postfix-*) postfix_ready ;;
    prepare-barid) barid_prepare "$root" ;;
    start-barid) barid_start "$root" ;;
    alive-barid) barid_alive ;;
    ready-barid) barid_ready ;;
  esac
}

server_ready_or_dead() { server_do ready "$1" || ! server_do alive "$1"; }
