"""Runs a command and writes what it took from the system: usage.py REPORT COMMAND [ARGUMENT ...]"""

import json
import resource
import subprocess
import sys

status = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as report:
    json.dump({"peak_kib": used.ru_maxrss, "cpu_seconds": used.ru_utime + used.ru_stime}, report)
sys.exit(status)
