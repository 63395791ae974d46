#!/usr/bin/env bash
# For -h or --help, show the comment at the top of a script and end it. All scripts source this one first.
case ${1:-} in
  -h | --help)
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
    exit 0
    ;;
esac
