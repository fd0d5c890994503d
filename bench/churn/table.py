# SPDX-License-Identifier: Apache-2.0
"""Lines "fresh|churned EF RECALL QPS" to a table of medians; exit status 1 when churn cost over a point of recall or a tenth of the speed."""
import statistics
import sys

points = {}
for line in open(sys.argv[1]):
    side, ef, recall, qps = line.split()
    points.setdefault(int(ef), {}).setdefault(side, []).append((float(recall), float(qps)))
print("\n| ef | fresh recall | churned recall | points | fresh queries/s | churned queries/s | ratio |")
print("| --- | --- | --- | --- | --- | --- | --- |")
missed = False
for ef, sides in sorted(points.items()):
    (r0, q0), (r1, q1) = (tuple(map(statistics.median, zip(*sides[side]))) for side in ("fresh", "churned"))
    missed |= r1 < r0 - 0.01 or q1 < 0.9 * q0
    print("| %d | %.4f | %.4f | %+.1f | %.0f | %.0f | %.2f |" % (ef, r0, r1, 100 * (r1 - r0), q0, q1, q1 / q0))
print("\nFloors, a point of recall and a tenth of the speed: %s." % ("missed" if missed else "met"))
sys.exit(1 if missed else 0)
