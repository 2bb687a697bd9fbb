"""Runs every test in a process of its own, where cargo-nextest is not installed: `python3 tools/test_each.py [words…]`.

Tests start servers, kill them, and look at what belongs to a whole process (signals, the tracer), so that threads of one
process would get in each other's way. The whole-system tests run one after the other, the others two at a time. With words,
only tests whose name has one of them. Exit code 1 when a test failed or took longer than ten minutes.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

LIMIT_S = 600
# What these print is worth reading, also when all is well: how long a restart took.
TOLD = ["waiting_sharing::held"]


def binaries():
    """(name, executable, directory of its package, whether it is the whole-system tests) of every test binary."""
    build = ["cargo", "test", "--workspace", "--lib", "--bins", "--tests", "--no-run", "--message-format", "json"]
    built = subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        artifact = json.loads(line)
        if artifact.get("executable") and artifact["profile"]["test"]:
            directory = os.path.dirname(artifact["manifest_path"])
            whole = os.path.basename(directory) == "tests"
            yield artifact["target"]["name"], artifact["executable"], directory, whole


def tests(executable, directory):
    listed = subprocess.run([executable, "--list", "--format", "terse"], cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
    ignored = subprocess.run([executable, "--list", "--ignored", "--format", "terse"], cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
    names = [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]
    skipped = [line.removesuffix(": test") for line in ignored.stdout.splitlines() if line.endswith(": test")]
    return [name for name in names if name not in skipped], skipped


def run(job):
    title, executable, directory, name = job
    begun = time.monotonic()
    command = [executable, name, "--exact", "--nocapture"]
    environment = {**os.environ, "CARGO_MANIFEST_DIR": directory}
    try:
        done = subprocess.run(command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S)
        passed, said = done.returncode == 0, done.stdout
    except subprocess.TimeoutExpired as late:
        passed, said = False, (late.stdout or b"") + f"\nlonger than {LIMIT_S} s".encode()
    print(f"{'PASS' if passed else 'FAIL'} [{time.monotonic() - begun:8.3f}s] {title} {name}", flush=True)
    if not passed or any(one in name for one in TOLD):
        print(said.decode(errors="replace"), flush=True)
    return passed


def main():
    words = sys.argv[1:]
    together, alone, skipped = [], [], []
    for name, executable, directory, whole in binaries():
        title = f"{os.path.basename(directory)}::{name}"
        found, ignored = tests(executable, directory)
        skipped += [f"{title} {one}" for one in ignored]
        jobs = [(title, executable, directory, one) for one in found if not words or any(word in one for word in words)]
        (alone if whole else together).extend(jobs)
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(run, together))
    results += [run(job) for job in alone]
    failed = results.count(False)
    print(f"{len(results)} tests run: {len(results) - failed} passed, {failed} failed, {len(skipped)} skipped: {', '.join(skipped) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
