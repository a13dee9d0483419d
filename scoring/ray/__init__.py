"""The engine for many processes, GPUs or machines; needs the packages of requirements-scale.txt."""
