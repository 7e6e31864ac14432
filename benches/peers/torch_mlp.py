"""PyTorch's side of the training benches: the `mlp` entry (784-256-128-10) with plain SGD on the CPU.

Question: how many samples does PyTorch train per CPU-second, alone and as two data-parallel processes over gloo?
Back of the envelope: training costs about 6 * 235,146 = 1.4 MFLOP a sample; a core that sustains 70 GFLOP/s on
matrices of this size would train 50,000 samples a second. DDP moves 0.94 MB of gradients per step and process.

    python torch_mlp.py rate --batch 128          one process, one thread
    python torch_mlp.py ddp --global-batch 128    two processes, gloo, one thread each

Prints one JSON object a line; `--runs N` repeats the measurement. Every line names the load average at its start,
because a rate per wall second means little on a busy machine; the CPU rates mean more.
"""

import argparse
import json
import multiprocessing
import os
import resource
import socket
import time

# One thread per process, set before any library reads it.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import torch
from torch import nn

LAYERS = (784, 256, 128, 10)
LEARNING_RATE = 0.1
DATA_SAMPLES = 8192
WARM_UP_STEPS = 50


def make_model():
    torch.manual_seed(1)
    layers = []
    for width_in, width_out in zip(LAYERS, LAYERS[1:]):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def make_batches(batch, seed):
    """A fixed set of random images, cut into batches once: the loader is not what is measured."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(DATA_SAMPLES, LAYERS[0], generator=generator)
    labels = torch.randint(0, LAYERS[-1], (DATA_SAMPLES,), generator=generator)
    return list(zip(images.split(batch), labels.split(batch)))


def train(model, batches, steps):
    """Runs `steps` steps and returns the last loss as a number, so that nothing can be left undone."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    loss_of = nn.CrossEntropyLoss()
    loss = None
    for step in range(steps):
        images, labels = batches[step % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
    return loss.item()


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(work):
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = work()
    return time.perf_counter() - wall, cpu_seconds() - cpu, result


def report(**fields):
    print(json.dumps({"peer": "torch", "version": torch.__version__, **fields}), flush=True)


def run_rate(batch, steps):
    load = os.getloadavg()[0]
    model, batches = make_model(), make_batches(batch, seed=1)
    train(model, batches, WARM_UP_STEPS)
    wall, cpu, loss = timed(lambda: train(model, batches, steps))
    report(
        bench="mlp_rate", batch=batch, threads=1, steps=steps, load1=round(load, 2), loss=round(loss, 4),
        wall_s=round(wall, 3), cpu_s=round(cpu, 3),
        samples_per_s=round(batch * steps / wall), samples_per_cpu_s=round(batch * steps / cpu),
    )


def ddp_process(rank, world, port, batch, steps, answers):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    try:
        model = nn.parallel.DistributedDataParallel(make_model())
        batches = make_batches(batch, seed=rank)
        train(model, batches, WARM_UP_STEPS)
        torch.distributed.barrier()
        wall, cpu, loss = timed(lambda: train(model, batches, steps))
        answers.put((wall, cpu, loss))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ddp(global_batch, world, steps):
    load = os.getloadavg()[0]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = (world, free_port(), global_batch // world, steps, answers)
    processes = [context.Process(target=ddp_process, args=(rank, *arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    results = [answers.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    wall = max(result[0] for result in results)
    cpu = sum(result[1] for result in results)
    samples = global_batch * steps
    report(
        bench="mlp_ddp_gloo", global_batch=global_batch, processes=world, threads=1, steps=steps, load1=round(load, 2),
        loss=round(results[0][2], 4), wall_s=round(wall, 3), cpu_s=round(cpu, 3),
        samples_per_s=round(samples / wall), samples_per_cpu_s=round(samples / cpu), cpu_ms_per_step=round(cpu / steps * 1e3, 3),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    modes = parser.add_subparsers(dest="mode", required=True)
    rate = modes.add_parser("rate")
    rate.add_argument("--batch", type=int, default=128)
    rate.add_argument("--steps", type=int, default=2000)
    ddp = modes.add_parser("ddp")
    ddp.add_argument("--global-batch", type=int, default=128)
    ddp.add_argument("--processes", type=int, default=2)
    ddp.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for _ in range(arguments.runs):
        if arguments.mode == "rate":
            run_rate(arguments.batch, arguments.steps)
        else:
            run_ddp(arguments.global_batch, arguments.processes, arguments.steps)


if __name__ == "__main__":
    main()
