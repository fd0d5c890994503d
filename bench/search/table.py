# SPDX-License-Identifier: Apache-2.0
"""Lines "SIDE EF RECALL QPS" to a table: queries per second of each side at equal recall (median of the rounds,
interpolated between the ef values around that recall), and the ratio."""
import statistics
import sys

points = {}
for line in open(sys.argv[1]):
    side, ef, recall, qps = line.split()
    points.setdefault(side, {}).setdefault(int(ef), []).append((float(recall), float(qps)))
curves = {side: [(statistics.median(r for r, _ in v), statistics.median(q for _, q in v), ef) for ef, v in sorted(efs.items())]
          for side, efs in points.items()}


def at(side, want):
    curve = curves.get(side, [])
    for (r0, q0, _), (r1, q1, _) in zip(curve, curve[1:]):
        if r0 <= want <= r1 and r1 > r0:
            return q0 + (q1 - q0) * (want - r0) / (r1 - r0)
    return None


print("| recall@10 | server, queries/s | hnswlib in process, queries/s | ratio |")
print("| --- | --- | --- | --- |")
for want in (0.90, 0.95, 0.98, 0.99):
    ours, theirs = at("server", want), at("hnswlib", want)
    print("| %.2f | %s | %s | %s |" % (want, "%.0f" % ours if ours else "-", "%.0f" % theirs if theirs else "-",
                                       "%.2f" % (ours / theirs) if ours and theirs else "-"))
print()
print("| ef | server recall | server queries/s | hnswlib recall | hnswlib queries/s |")
print("| --- | --- | --- | --- | --- |")
theirs = {ef: (r, q) for r, q, ef in curves.get("hnswlib", [])}
for r, q, ef in curves.get("server", []):
    other = theirs.get(ef)
    print("| %d | %.4f | %.0f | %s |" % (ef, r, q, "%.4f | %.0f" % other if other else "- | -"))
