#!/bin/sh
# What only a GPU can show, in some minutes and without a network: no step waits for the device, and what steps cost.
#
#   sh benchmarks/gpu.sh OUT [PYTHON]
#
# Leaves OUT/no_waiting.txt and OUT/step_gpu.json; the latter belongs into benchmarks/measured, from where
# 'make tables' writes the table of benchmarks/step.md. Nothing needs to be installed but the dependencies.
set -u
out=${1:?give a folder for the results}
python=${2:-python3}
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$out"
timeout 240 "$python" -m pytest -p no:cacheprovider tests/engine/test_no_waiting.py -k cuda -n 0 --tb=short \
    > "$out/no_waiting.txt" 2>&1
waited=$?
tail -n 25 "$out/no_waiting.txt"
"$python" -m segadapt bench step --task gta5_cityscapes --repeats 5 --minutes 3.5 --accelerator cuda \
    --recipes proda,cpsl,daformer,mic_hrda,vfm_uda_base,vfm_uda,mpcl,mpcl_hrda,bcl,cbst,adaptseg,mic,dacs \
    --out "$out/step_gpu.json" || exit 1
exit $waited
