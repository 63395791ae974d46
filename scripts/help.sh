#!/usr/bin/env bash
# If the option is -h or --help, print the comment at the top of the script and exit. All scripts source this file.
case ${1:-} in
  -h | --help)
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
    exit 0
    ;;
esac
