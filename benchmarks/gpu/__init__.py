"""What a CUDA GPU does with this code, part by part: `benchmarks/gpu_all.sh`, or `python -m benchmarks.gpu PART`."""
