"""Engine for many processes, GPUs or machines; needs the packages in requirements-scale.txt."""
