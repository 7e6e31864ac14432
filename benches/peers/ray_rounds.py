"""Ray's side of the rounds of a parameter server: one server actor, two worker actors, one hidden layer in numpy.

Question: how many rounds a second does a parameter server in Ray make, and what CPU does a gradient cost beside itself?
A round is one update of the server's weights: by the mean of both workers' gradients where they go in step (`sync`), by
one gradient where they do not (`async`). It is the loop that Ray's own example of a parameter server has: the driver
hands references to gradients and weights on, and the object store holds them.
Back of the envelope: a gradient of 784-h-10 on 64 samples is 6 * 64 * 795 * h FLOP: 0.04 GFLOP for h = 128 (101,770
parameters, under 1 ms) and 1.9 GFLOP for h = 6,290 (5.0 M, 30 ms at 64 GFLOP/s). A round moves 4 * 20 MB there.

    python ray_rounds.py --hidden 128 --rounds 1000
    python ray_rounds.py --hidden 6290 --rounds 100

Prints a JSON object each for `gradient` (the gradient alone, in this process), `sync` and `async`. The CPU of a round is
all that this process and those it started use during it: server, workers, driver, Ray's own daemons.
"""

import argparse
import json
import os
import secrets
import signal
import sys
import tempfile
import time

# One thread per process, set before any library reads it.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np

PIXELS = 784
CLASSES = 10
LEARNING_RATE = 0.05
BATCHES = 64
WARM_UP_ROUNDS = 5
OBJECT_STORE_BYTES = 1 << 30
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class OneHiddenLayer:
    """784-h-10 with ReLU and cross-entropy; weights and gradient are one flat array each."""

    def __init__(self, hidden):
        random = np.random.default_rng(0)
        self.hidden = hidden
        drawn = [random.standard_normal(PIXELS * hidden) * 0.05, np.zeros(hidden)]
        drawn += [random.standard_normal(hidden * CLASSES) * 0.05, np.zeros(CLASSES)]
        self.weights = np.concatenate(drawn).astype(np.float32)

    def cut(self, flat):
        first, bias, second = PIXELS * self.hidden, self.hidden, self.hidden * CLASSES
        layer1, bias1, layer2, bias2 = np.split(flat, np.cumsum([first, bias, second]))
        return layer1.reshape(PIXELS, self.hidden), bias1, layer2.reshape(self.hidden, CLASSES), bias2

    def gradient(self, weights, images, labels):
        layer1, bias1, layer2, bias2 = self.cut(weights)
        raw = images @ layer1 + bias1
        hidden = np.maximum(raw, 0)
        scores = hidden @ layer2 + bias2
        slopes = np.exp(scores - scores.max(axis=1, keepdims=True))
        slopes /= slopes.sum(axis=1, keepdims=True)
        slopes[np.arange(len(labels)), labels] -= 1
        slopes /= len(labels)
        gradient = np.empty_like(weights)
        to_layer1, to_bias1, to_layer2, to_bias2 = self.cut(gradient)
        np.matmul(hidden.T, slopes, out=to_layer2)
        to_bias2[:] = slopes.sum(axis=0)
        back = (slopes @ layer2.T) * (raw > 0)
        np.matmul(images.T, back, out=to_layer1)
        to_bias1[:] = back.sum(axis=0)
        return gradient


def make_batches(batch, seed):
    random = np.random.default_rng(seed)
    make = lambda: (random.random((batch, PIXELS), dtype=np.float32), random.integers(0, CLASSES, batch))
    return [make() for _ in range(BATCHES)]


class Server:
    def __init__(self, hidden):
        self.weights = OneHiddenLayer(hidden).weights

    def apply(self, *gradients):
        mean = gradients[0] if len(gradients) == 1 else sum(gradients) / len(gradients)
        self.weights = self.weights - LEARNING_RATE * mean
        return self.weights

    def get(self):
        return self.weights


class Worker:
    def __init__(self, hidden, batch, seed):
        self.model, self.batches, self.done = OneHiddenLayer(hidden), make_batches(batch, seed), 0

    def gradient(self, weights):
        images, labels = self.batches[self.done % len(self.batches)]
        self.done += 1
        return self.model.gradient(weights, images, labels)


def processes_below(root):
    """The ids of a process and all below it."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                children.setdefault(int(stat.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
        except OSError:
            pass  # It has ended meanwhile.
    found, open_ends = [], [root]
    while open_ends:
        process = open_ends.pop()
        found.append(process)
        open_ends += children.get(process, [])
    return found


def cpu_seconds(processes):
    ticks = 0
    for process in processes:
        try:
            with open(f"/proc/{process}/stat") as stat:
                ticks += sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))
        except OSError:
            pass
    return ticks / CLOCK_TICKS


def report(mode, arguments, rounds, gradients, wall, cpu, **more):
    line = {
        "peer": "ray", "bench": "rounds", "mode": mode, "parameters": OneHiddenLayer(arguments.hidden).weights.size,
        "workers": arguments.workers, "batch": arguments.batch, "load1": round(os.getloadavg()[0], 2),
        "rounds": rounds, "gradients": gradients, "wall_s": round(wall, 4), "cpu_s": round(cpu, 4),
        "rounds_per_s": round(rounds / wall, 2), "cpu_ms_per_gradient": round(cpu / gradients * 1e3, 3),
    }
    print(json.dumps({**line, **more}), flush=True)


def run_gradient(arguments):
    """The gradient by itself: what is computed, whatever distributes it."""
    model, batches = OneHiddenLayer(arguments.hidden), make_batches(arguments.batch, 0)
    run = lambda count: [model.gradient(model.weights, *batches[at % BATCHES]) for at in range(count)][-1]
    run(WARM_UP_ROUNDS)
    wall, cpu = time.perf_counter(), time.process_time()
    for at in range(arguments.rounds):
        model.gradient(model.weights, *batches[at % BATCHES])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    report("gradient", arguments, arguments.rounds, arguments.rounds, wall, cpu)


def in_step(ray, server, workers, rounds):
    weights = server.get.remote()
    for _ in range(rounds):
        weights = server.apply.remote(*[worker.gradient.remote(weights) for worker in workers])
        ray.wait([weights])


def out_of_step(ray, server, workers, rounds):
    weights = server.get.remote()
    computing = {worker.gradient.remote(weights): worker for worker in workers}
    for _ in range(rounds):
        [gradient], _ = ray.wait(list(computing))
        worker = computing.pop(gradient)
        computing[worker.gradient.remote(server.apply.remote(gradient))] = worker
    ray.get(list(computing))


def use_a_token_in(folder):
    """Ray asks for a token from clients of its clusters, and would make one in the home folder."""
    path = os.path.join(folder, "token")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=path, RAY_USAGE_STATS_ENABLED="0")


def run_rounds(arguments, folder):
    use_a_token_in(folder)
    import ray
    try:
        ray.init(
            _node_ip_address="127.0.0.1", _temp_dir=folder, num_cpus=max(2, arguments.workers), include_dashboard=False,
            logging_level="ERROR", log_to_driver=False, object_store_memory=OBJECT_STORE_BYTES,
        )
        actor = ray.remote(num_cpus=0)
        server = actor(Server).remote(arguments.hidden)
        workers = [actor(Worker).remote(arguments.hidden, arguments.batch, at) for at in range(arguments.workers)]
        for mode, run, gradients in (("sync", in_step, arguments.workers), ("async", out_of_step, 1)):
            run(ray, server, workers, WARM_UP_ROUNDS)
            processes = processes_below(os.getpid())
            # As many gradients in both modes.
            rounds = arguments.rounds * arguments.workers // gradients
            wall, cpu = time.perf_counter(), cpu_seconds(processes)
            run(ray, server, workers, rounds)
            wall, cpu = time.perf_counter() - wall, cpu_seconds(processes) - cpu
            report(mode, arguments, rounds, rounds * gradients, wall, cpu, version=ray.__version__)
    finally:
        ray.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1000)
    arguments = parser.parse_args()
    # So that `finally` runs where a time limit ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run_gradient(arguments)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        run_rounds(arguments, folder)


if __name__ == "__main__":
    main()
