#!/usr/bin/env bash
# What README.md tells a newcomer, word for word but for `--detach`: nobody is here to press keys.
set -euo pipefail
cd "$(dirname "$0")/.."

TOWLINE_HOME=$(mktemp -d)
export TOWLINE_HOME TOWLINE_CONTEXT=embedded
unset KUBECONFIG TOWLINE_NAMESPACE OKTETO_NAMESPACE OKTETO_CONTEXT TOWLINE_AGENT
page=examples/hello/index.html
cp -p "$page" "$TOWLINE_HOME/index.html"

leave() {
  cp -p "$TOWLINE_HOME/index.html" "$page"
  # The embedded cluster's pods are processes that outlive every command: those that work in its folder end here.
  for process in /proc/[0-9]*; do
    case $(readlink "$process/cwd" 2>/dev/null || true) in
      "$TOWLINE_HOME"/*) kill -9 "${process#/proc/}" 2>/dev/null || true ;;
    esac
  done
  rm -rf "$TOWLINE_HOME"
}
trap leave EXIT

# serves URL TEXT: waits until the page has the text.
serves() {
  local answer=
  for _ in $(seq 100); do
    answer=$(curl -s --max-time 5 "$1" || true)
    case $answer in *"$2"*) echo "$1: $2"; return ;; esac
    sleep 0.1
  done
  echo "error: $1 does not say \"$2\" but: $answer"
  exit 1
}

cargo run -p cli up --detach
serves http://localhost:8080 "Hello from your folder"
sed -i 's/Hello from your folder/Hello from an edit/' "$page"
serves http://localhost:8080 "Hello from an edit"
cargo run -p cli status
cargo run -p cli exec -- sh -c 'grep -c "an edit" index.html'
cargo run -p cli down
serves http://localhost:18080 "$(sed -n 's:.*<h1>\(.*\)</h1>.*:\1:p' examples/hello/production/index.html)"
