#!/usr/bin/env bash
# Six schedules on every built-in task under AdamW: about eight minutes on two cores; resumes.
set -euo pipefail
cd "$(dirname "$0")/.."
tasks=(digits-mlp digits-cnn cancer-logreg bytes-lm nmf-digits noisy-quadratic)
.venv/bin/lrpilot compare "${tasks[@]/#/--task=}" --seeds 5 "$@"
