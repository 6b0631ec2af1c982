#!/usr/bin/env python3
"""What a wide team buys a client that is alone, and costs clients that are not: servers with and without one, in turns.

    ./dev shell python3 bench/concurrent_clients.py [--models resnet50,bert_base] [--spec int8/per-channel/dynamic]

Both servers load the same store and wait until one of them has tried where a team pays. Then, round after round, one of
them after the other answers 1, 2 and 4 clients, each of which asks again as soon as it has its answer. Latencies are the
clients'. Run it on an idle machine.
"""
import argparse
import contextlib
import pathlib
import statistics
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))
from halftone_server import Client, Server  # noqa: E402
import serving  # noqa: E402
import workloads  # noqa: E402

CLIENTS = (1, 2, 4)
TEAMS = {"wide": "--wide_threads=0", "narrow": "--wide_threads=1"}
QUIET_SECONDS = 3  # a trial takes half a second of runs, and the building of one program


def Answers(ask, clients, seconds):
    """Latencies of so many clients in a loop, and answers per second of all together."""
    latencies = [[] for _ in range(clients)]
    end = time.monotonic() + seconds

    def Loop(mine):
        while (start := time.monotonic()) < end:
            ask()
            mine.append(time.monotonic() - start)

    threads = [threading.Thread(target=Loop, args=(mine,)) for mine in latencies]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = sorted(x for mine in latencies for x in mine)
    return every, len(every) / (time.monotonic() - begin)


def WideRuns(server):
    (_, value), = server.Metrics()["halftone_wide_runs_total"]
    return value


def Ask(server, client, path, spec):
    request = client.inference_pb.InferRequest(
        model="m", variant=client.types.VariantSelector(spec_text=spec), inputs=serving.Inputs(client, path))
    return lambda: client.inference.Infer(request, timeout=900)


def Measure(args, path, spec, stores):
    """Rows: team, clients, latencies, answers per second (one per round), share of wide runs."""
    with contextlib.ExitStack() as stack:
        servers = {team: stack.enter_context(Server(args.build, f"--store={stores[team]}", flag))
                   for team, flag in TEAMS.items()}
        asks = {team: Ask(server, Client(server.target), path, spec) for team, server in servers.items()}
        for ask in asks.values():
            for _ in range(5):  # loads, and makes shapes known that only requests have
                ask()
                time.sleep(0.05)
        time.sleep(QUIET_SECONDS)
        rows = {(team, n): ([], [], []) for n in CLIENTS for team in TEAMS}
        for round_ in range(args.rounds):
            for n in CLIENTS:
                for team in sorted(TEAMS, reverse=round_ % 2 == 0):
                    before = WideRuns(servers[team])
                    latencies, rate = Answers(asks[team], n, args.seconds)
                    rows[team, n][0].extend(latencies)
                    rows[team, n][1].append(rate)
                    rows[team, n][2].append((WideRuns(servers[team]) - before) / len(latencies))
        return rows


def Quantile(values, q):
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--models", default="resnet50,mobilenet_v2,bert_base", metavar="A,B")
    parser.add_argument("--specs", default="fp32,int8/per-channel/dynamic", metavar="A,B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each setup and round")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench" / "models")
    args = parser.parse_args()
    specs = args.specs.split(",")
    print("| model | spec | clients | team | p10 ms | p50 ms | p90 ms | p99 ms | answers/s | ran wide |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.models.split(","):
        label, path = workloads.FindModel(name, args.work)
        with contextlib.ExitStack() as stack:
            stores = {team: stack.enter_context(tempfile.TemporaryDirectory(prefix="halftone-clients-"))
                      for team in TEAMS}
            for store in stores.values():
                serving.Build(args.build, path, specs, store)
            for spec in specs:
                for (team, n), (latencies, rates, wide) in Measure(args, path, spec, stores).items():
                    cells = [f"{Quantile(latencies, q) * 1e3:.1f}" for q in (0.1, 0.5, 0.9, 0.99)]
                    print(f"| {label} | {spec} | {n} | {team} | {' | '.join(cells)} | "
                          f"{statistics.median(rates):.1f} | {statistics.mean(wide):.0%} |", flush=True)


if __name__ == "__main__":
    main()
