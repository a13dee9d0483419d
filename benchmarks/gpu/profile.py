"""Where the time of a training step goes: the costliest kernels, from torch's profiler."""

from torch.profiler import ProfilerActivity, profile

from benchmarks.data import learnable_batch
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.training import FAST, on_device, trained
from benchmarks.rows import Rows
from benchmarks.timing import WARM_UP, milliseconds

SHOWN = 10  # kernels


def measure(rows: Rows, sizes: Sizes) -> None:
    """Write the costliest kernels of training as configs/koniq10k_fast.yaml does."""
    on_gpu = sizes.device.type == "cuda"
    with trained(FAST, sizes.batch, sizes) as step:
        batch = on_device(learnable_batch(sizes.batch, sizes.side, seed=0), sizes)
        for _ in range(WARM_UP):
            step(batch)
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
            taken = milliseconds(lambda: [step(batch) for _ in range(sizes.profiled_steps)])
    write_kernels(rows, sizes, profiler, taken / sizes.profiled_steps)


def write_kernels(rows: Rows, sizes: Sizes, profiler: profile, step: float) -> None:
    """Write milliseconds of a step, the share of it that the device was busy, and the costliest kernels."""
    on_gpu = sizes.device.type == "cuda"
    kernels = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count)
        for event in profiler.key_averages()
    }
    in_all = sum(taken for taken, _ in kernels.values()) / 1000 / sizes.profiled_steps
    launches = sum(count for _, count in kernels.values()) / sizes.profiled_steps
    rows.add("step", milliseconds=step, busy_milliseconds=in_all, kernels=launches)
    costliest = sorted(kernels, key=lambda key: kernels[key][0], reverse=True)[:SHOWN]
    for place, key in enumerate(costliest, start=1):
        taken, count = kernels[key]
        per_step = taken / 1000 / sizes.profiled_steps
        rows.add(f"kernel_{place}", kernel=key, milliseconds=per_step, calls=count / sizes.profiled_steps)
