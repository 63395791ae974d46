#!/usr/bin/env bash
# If the option is -h or --help, print the comment at the top of the script and exit. All scripts source this file.
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }
case ${1:-} in
  -h | --help)
    usage
    exit 0
    ;;
esac

# needs N "$@": if there are fewer than N arguments, print the same on standard error, and exit with status 2.
needs() {
  [ $# -le "$1" ] || return 0
  echo "error: needs $1 argument$([ "$1" = 1 ] || echo s), got $(($# - 1))" >&2
  usage >&2
  exit 2
}
