# SPDX-License-Identifier: Apache-2.0
"""
The crash suite: kills (kills.py), failing and full disks (disks.py). Environment: RK_TEST_LONG=1 for 200 kills,
RK_CRASH_KILLS=N for N of them, RK_CRASH_SEED=N to repeat a run, RK_TEST_ONLY for cases whose name contains it.
"""
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)

import disks  # noqa: E402
import kills  # noqa: E402


def main():
    only = os.environ.get("RK_TEST_ONLY", "")
    seed = int(os.environ.get("RK_CRASH_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
    print("seed %d (RK_CRASH_SEED repeats the choices)" % seed)
    passed, failed, begin = 0, [], time.monotonic()
    for case in kills.CASES + disks.CASES:
        if only not in case.__name__:
            continue
        start = time.monotonic()
        try:
            note = case(seed)
            passed += case.weight() if hasattr(case, "weight") else 1
            print("%-40s %5.1f s  %s" % (case.__name__, time.monotonic() - start, note or ""))
        except disks.Skip as reason:
            print("%-40s skipped: %s" % (case.__name__, reason))
        except Exception:
            failed.append(case.__name__)
            print("FAIL %s\n%s" % (case.__name__, traceback.format_exc()))
        sys.stdout.flush()
    for name in failed:
        print("failed: " + name)
    print("%.0f s" % (time.monotonic() - begin))
    print("SUITE crash: %d passed, %d failed" % (passed, len(failed)))
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # client threads must not delay the end


if __name__ == "__main__":
    main()
