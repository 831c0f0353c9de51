"""How long one waits: to import the language, to compile, to load again what was kept.

Each figure is of a process of its own, as a user meets it: the first compilation with the compiler's imports behind it
and LLVM's still before it.  Medians of several processes.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from statistics import median

IMPORT = """
import json, time
begun = time.perf_counter()
import iovisor.language
print(json.dumps({"import": time.perf_counter() - begun}))
"""
COMPILE = """
import json, sys, time
from iovisor.functions.switch import Switch
from iovisor.compiler.cache import Cache
from iovisor.targets.bpf_loaded import BpfLoaded
cache, found = Cache(sys.argv[1]), {}
for name in ("cold", "hit", "again"):
    function = Switch()
    begun = time.perf_counter()
    with BpfLoaded(function, "tc", cache=cache) as loaded:
        took = time.perf_counter() - begun
        spent = loaded.compiled["ingress"].timing
        found[name] = took
        if name == "cold" and not loaded.compiled["ingress"].cached:
            found |= {"frontend": spent.frontend, "llvm": spent.llvm, "waiting": spent.waiting,
                      "load": took - spent.frontend - spent.llvm - spent.waiting}
print(json.dumps(found))
"""


def measure(rounds: int = 9) -> dict[str, float]:
    """Milliseconds: `import`; `cold` and its parts; `kept`, the first use of a cache by a process; `again`, a later."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}

        def run(program: str, *arguments: str) -> dict[str, float]:
            done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True,
                                  text=True, env=environment)
            return dict(json.loads(done.stdout))

        run(IMPORT)
        run(COMPILE, f"{folder}/first")         # bytecode is written
        for number in range(rounds):
            cold = run(COMPILE, f"{folder}/{number}")
            kept = run(COMPILE, f"{folder}/{number}")
            cold |= {"kept": kept["cold"], "again": kept["again"]}
            for name, seconds in (cold | run(IMPORT)).items():
                found.setdefault(name, []).append(seconds * 1000)
    return {name: median(values) for name, values in found.items()}
