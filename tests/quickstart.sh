#!/usr/bin/env bash
# Runs the commands of docs/QUICKSTART.md, or of the document that is named: every ```sh block, in order,
# in one shell. The document says what it expects in the commands themselves, so the first surprise
# fails, with its line.
#
# PLEXUS_BIN_DIR is where the programs are; target/debug by default.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
doc=${1:-docs/QUICKSTART.md}

for program in curl jq; do
  command -v "$program" > /dev/null || {
    echo "tests/quickstart.sh: $program is missing; install it: apt-get install $program" >&2
    exit 2
  }
done
export PLEXUS_BIN_DIR=${PLEXUS_BIN_DIR:-$root/target/debug}
for program in plexus plexus-proxy; do
  [ -x "$PLEXUS_BIN_DIR/$program" ] || {
    echo "tests/quickstart.sh: no $program in $PLEXUS_BIN_DIR; run: cargo build" >&2
    exit 2
  }
done

# All the document makes lies in one folder, which goes whatever happens.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/plexus-quickstart.XXXXXX")
export TMPDIR no_proxy=127.0.0.1
finish() {
  local code=$?
  if [ "$code" -ne 0 ]; then
    find "$TMPDIR" -name '*.log' -exec tail -n 20 {} + >&2
  fi
  rm -rf "$TMPDIR"
  exit "$code"
}
trap finish EXIT

# Text becomes empty lines, so that line numbers are the document's. Its first line, a heading, makes
# room for what tells the line and ends what was started.
script=$TMPDIR/quickstart
awk '
  NR == 1 {
    print "trap '\''echo \"'"$doc"':$LINENO: failed: $BASH_COMMAND\" >&2'\'' ERR; " \
      "trap '\''kill $(jobs -p) 2> /dev/null || :; wait || :'\'' EXIT"
    next
  }
  /^```/ { inside = ($0 == "```sh"); print ""; next }
  { print inside ? $0 : "" }
' "$doc" > "$script"
bash -Eeuo pipefail "$script" < /dev/null
