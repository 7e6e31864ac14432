"""PyTorch's side of the training bench: the entries `mlp` and `cnn` with plain SGD on the CPU.

Question: how many samples does PyTorch train a second and per CPU-second, alone and as two data-parallel processes?
Back of the envelope: `mlp` (784-256-128-10) costs 6 * 235,146 = 1.4 MFLOP a sample; a core that sustains 70 GFLOP/s on
matrices of this size trains 50,000 samples a second. `cnn` has 105,866 parameters, but its convolutions visit each
pixel: 3 * 2 * (784 * 16 * 9 + 196 * 32 * 144 + 1568 * 64 + 640) = 6.7 MFLOP a sample, in matrices too narrow to sustain
that. DDP moves 0.94 MB (`mlp`) or 0.42 MB (`cnn`) of gradients per step and process.

    python torch_train.py --model cnn rate --batch 128         one process, one thread
    python torch_train.py --model mlp ddp --global-batch 128   two processes, gloo, one thread each

Prints one JSON object; `--runs N` prints so many. Each names the load average at its start, because a rate per wall
second means little on a busy machine; the CPU rates mean more.
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

LEARNING_RATE = 0.1
SIDE = 28
CLASSES = 10
DATA_SAMPLES = 8192
WARM_UP_STEPS = 20


def mlp():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIDE * SIDE, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, CLASSES),
    )


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (SIDE // 4) ** 2, 64), nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


MODELS = {"mlp": mlp, "cnn": cnn}


def make_model(name):
    torch.manual_seed(1)
    return MODELS[name]()


def make_batches(batch, seed):
    """A fixed set of random images, cut into batches once: the loader is not what is measured."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(DATA_SAMPLES, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, CLASSES, (DATA_SAMPLES,), generator=generator)
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


def report(bench, arguments, load, batch, wall, cpu, loss, **more):
    samples = batch * arguments.steps
    line = {
        "peer": "torch", "version": torch.__version__, "bench": f"{arguments.model}_{bench}", "threads": 1,
        "batch": batch, "steps": arguments.steps, "samples": samples, "load1": round(load, 2), "loss": round(loss, 4),
        "wall_s": round(wall, 4), "cpu_s": round(cpu, 4), "samples_per_s": round(samples / wall),
        "samples_per_cpu_s": round(samples / cpu), "cpu_ms_per_step": round(cpu / arguments.steps * 1e3, 3),
    }
    print(json.dumps({**line, **more}), flush=True)


def run_rate(arguments):
    load = os.getloadavg()[0]
    model, batches = make_model(arguments.model), make_batches(arguments.batch, seed=1)
    train(model, batches, WARM_UP_STEPS)
    wall, cpu, loss = timed(lambda: train(model, batches, arguments.steps))
    report("rate", arguments, load, arguments.batch, wall, cpu, loss)


def ddp_process(rank, arguments, port, answers):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    world = arguments.processes
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    try:
        model = nn.parallel.DistributedDataParallel(make_model(arguments.model))
        batches = make_batches(arguments.global_batch // world, seed=rank)
        train(model, batches, WARM_UP_STEPS)
        torch.distributed.barrier()
        answers.put(timed(lambda: train(model, batches, arguments.steps)))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ddp(arguments):
    load = os.getloadavg()[0]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    shared = (arguments, free_port(), answers)
    processes = [context.Process(target=ddp_process, args=(rank, *shared)) for rank in range(arguments.processes)]
    for process in processes:
        process.start()
    walls, cpus, losses = zip(*[answers.get(timeout=600) for _ in processes])
    for process in processes:
        process.join()
    report(
        "ddp_gloo", arguments, load, arguments.global_batch, max(walls), sum(cpus), losses[0],
        processes=arguments.processes,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    modes = parser.add_subparsers(dest="mode", required=True)
    rate = modes.add_parser("rate")
    rate.add_argument("--batch", type=int, default=128)
    ddp = modes.add_parser("ddp")
    ddp.add_argument("--global-batch", type=int, default=128)
    ddp.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for _ in range(arguments.runs):
        {"rate": run_rate, "ddp": run_ddp}[arguments.mode](arguments)


if __name__ == "__main__":
    main()
