# What small measurements have in common: options, a place to work, figures with their goals.
#
# Sourced. The script sets NAME, and KNOBS: an associative array from option to variable, beside those
# that all have (--bin-dir, --work-dir, --help).

die() {
  printf '%s: %s\n' "$NAME" "$*" >&2
  exit 1
}

usage() { sed -n '3,/^$/{s/^# \{0,1\}//;p}' "$0"; }

parse_arguments() {
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --bin-dir) BIN_DIR=${2-} ;;
      --work-dir) WORK_BASE=${2-} ;;
      *)
        if [[ -z ${KNOBS[$1]-} ]]; then
          printf '%s: unknown argument %s (--help tells more)\n' "$NAME" "$1" >&2
          exit 2
        fi
        printf -v "${KNOBS[$1]}" %s "${2-}"
        ;;
    esac
    if (($# < 2)); then
      printf '%s: %s needs a value (--help tells more)\n' "$NAME" "$1" >&2
      exit 2
    fi
    shift 2
  done
}

clean_up() {
  servers_end
  if [[ $WORK ]]; then rm -rf "$WORK"; fi
}

# begin ARGUMENT...: reads them, and makes a place to work, which goes with the script.
begin() {
  parse_arguments "$@"
  trap clean_up EXIT
  trap 'exit 1' INT TERM
  WORK=$(mktemp -d "$WORK_BASE/barid-$NAME.XXXXXX")
}

# told FIGURE VALUE [GOAL]: at most that; FAILED says whether one was missed.
told() {
  local judgement=
  if (($# > 2)); then
    if awk -v value="$2" -v goal="$3" 'BEGIN { exit !(value <= goal) }'; then
      judgement=" PASS (goal: at most $3)"
    else
      judgement=" FAIL (goal: at most $3)" FAILED=yes
    fi
  fi
  printf '%s %s %s%s\n' "$NAME" "$1" "$2" "$judgement"
}
