#!/usr/bin/env bash
# Measure everything on one CUDA GPU of 80 GB in about nine minutes: benchmarks/gpu_all.sh [DIR] [--small]
#
# Each part runs in a process of its own, writes DIR/PART.jsonl row by row, and may fail without stopping the others.
# Needs requirements.txt, pytest and transformers. --small tries the code on the CPU; its figures mean nothing.
set -u
cd "$(dirname "$0")/.."
output=${1:-gpu_results}
small=${2:-}
python=${PYTHON:-python3}
export OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1
mkdir -p "$output/warm_up"

part() { # name, seconds it may take, where its rows go
    timeout "$2" "$python" -m benchmarks.gpu "$1" --output "$3" $small >"$3/$1.log" 2>&1
    echo "$1: exit status $?, $SECONDS s after the start, see $3/$1.log"
}

# No time measured here counts, so it runs side by side; it also fills the compiler's cache for what follows.
part parity 120 "$output" &
part agreement 240 "$output" &
part epoch 240 "$output/warm_up" &
part inference_compiled 240 "$output/warm_up" &
part training_large 240 "$output/warm_up" &
(timeout 240 "$python" -m pytest -q -m gpu tests >"$output/tests.log" 2>&1; tail -n 1 "$output/tests.log") &
wait

part epoch 120 "$output"
part training 150 "$output"
part training_large 90 "$output"
part inference_compiled 90 "$output"
part profile 90 "$output"
part inference 120 "$output"
