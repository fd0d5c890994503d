# SPDX-License-Identifier: Apache-2.0
"""Lines of the ann programs to tables and a plot.

    table.py search NAME DATA FOLDER SVG      FOLDER has single, batch: lines "SYSTEM SETTING RECALL QPS"; builds: lines
                                              "build SYSTEM WALL CPU ROWS/S INDEX-BYTES/ROW VECTOR-BYTES/ROW"
    table.py filter NAME SETTING LINES        lines "filter SYSTEM SHAPE PERCENT RECALL QPS SHARE"

A system's curve is the upper edge of its points (medians over the rounds): for every recall the fastest setting that reaches it. Between two
points of the edge queries per second are interpolated linearly; a system whose fastest point already lies above a recall is counted with that point.
Plain Python: the plot is written as SVG by hand.
"""
import math
import statistics
import struct
import sys

WANTED = (0.90, 0.95, 0.99)
PEER = "hnswlib"
COLOURS = ("#d62728", "#ff7f0e", "#b5179e", "#8c564b", "#e377c2", "#1f77b4", "#2ca02c", "#17becf", "#9467bd", "#7f7f7f", "#bcbd22", "#393b79",
           "#637939", "#843c39", "#3182bd")


def curves_of(path):
    points = {}
    for line in open(path):
        system, setting, recall, qps = line.split()
        points.setdefault(system, {}).setdefault(setting, []).append((float(recall), float(qps)))
    return {system: edge([tuple(map(statistics.median, zip(*rounds))) for rounds in settings.values()]) for system, settings in points.items()}


def edge(points):
    """Points that no other beats in both recall and speed, by rising recall."""
    kept = []
    for recall, qps in sorted(points, key=lambda p: (-p[0], -p[1])):
        if not kept or qps > kept[-1][1]:
            kept.append((recall, qps))
    return kept[::-1]


def at(curve, wanted):
    if not curve or curve[-1][0] < wanted:
        return None
    if curve[0][0] >= wanted:
        return curve[0][1]
    for (r0, q0), (r1, q1) in zip(curve, curve[1:]):
        if r0 <= wanted <= r1:
            return q0 + (q1 - q0) * (wanted - r0) / (r1 - r0)
    return None


def number(value, form="%.0f"):
    return "-" if value is None else form % value


def speed_table(curves, builds):
    peer = {wanted: at(curves.get(PEER, []), wanted) for wanted in WANTED}
    head = ["system"] + ["%.2f" % w for w in WANTED] + ["x %s at %.2f" % (PEER, w) for w in WANTED]
    if builds:
        head += ["build rows/s", "build CPU s", "CPU x %s" % PEER, "index bytes/row", "vectors beside"]
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for system in sorted(curves, key=lambda s: -(at(curves[s], 0.95) or 0)):
        qps = [at(curves[system], wanted) for wanted in WANTED]
        cells = [system] + [number(q) for q in qps]
        cells += [number(q / peer[w] if q and peer[w] else None, "%.2f") for q, w in zip(qps, WANTED)]
        if builds:
            b = builds.get(system)
            ratio = builds[PEER][1] / b[1] if b and b[1] and PEER in builds else None
            cells += [number(b[2]), number(b[1], "%.1f"), number(ratio, "%.2f"), number(b[3]), number(b[4])] if b else ["-"] * 5
        print("| " + " | ".join(cells) + " |")


def search(name, data, folder, svg):
    rows, queries, dim, _, metric, _ = struct.unpack("<6I", open(data, "rb").read(24))
    single, batch = curves_of(folder + "/single"), curves_of(folder + "/batch")
    builds = {}
    for line in open(folder + "/builds"):
        _, system, *values = line.split()
        builds[system] = [float(value) for value in values]
    title = "%s: %d rows x %d, %s, %d queries, k = 10" % (name, rows, dim, "cosine" if metric else "L2", queries)
    print("\n#### %s\n\nQueries per second at recall@10, one thread, one query at a time:\n" % title)
    speed_table(single, builds)
    if batch:
        print("\nThe same with 1,000 queries in one call, for libraries that have such a call; the others as above:\n")
        speed_table({**{system: curve for system, curve in single.items() if system == PEER}, **batch}, None)
    plot(svg, title, single)


def plot(path, title, curves):
    """Recall on an axis that stretches towards 1, queries per second on a logarithmic one."""
    width, height, left, right, top, bottom = 900, 560, 70, 210, 40, 50

    def stretch(recall):
        return -math.log10(1.0005 - min(recall, 0.9995))
    low, high = stretch(0.5), stretch(0.9995)
    shown = {s: [p for p in c if p[0] >= 0.5] for s, c in curves.items()}
    speeds = [q for c in shown.values() for _, q in c if q > 0] or [1, 10]
    q_low, q_high = math.floor(math.log10(min(speeds)) * 4) / 4, math.ceil(math.log10(max(speeds)) * 4) / 4
    q_high = max(q_high, q_low + 0.25)

    def x(recall):
        return left + (width - left - right) * (stretch(recall) - low) / (high - low)

    def y(qps):
        return height - bottom - (height - top - bottom) * (math.log10(qps) - q_low) / (q_high - q_low)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">' % (width, height),
           '<rect width="100%" height="100%" fill="white"/>', '<text x="%d" y="22" font-size="15">%s</text>' % (left, title)]
    for recall in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999):
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>' %
                   (x(recall), top, x(recall), height - bottom, x(recall), height - bottom + 18, recall))
    for decade in range(int(math.floor(q_low)), int(math.ceil(q_high)) + 1):
        for step in (1, 2, 5):
            qps = step * 10 ** decade
            if q_low <= math.log10(qps) <= q_high:
                out.append('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>' %
                           (left, y(qps), width - right, y(qps), left - 6, y(qps) + 4, format(qps, ",")))
    out.append('<text x="%d" y="%d" text-anchor="middle">recall@10</text>' % ((left + width - right) / 2, height - 10))
    out.append('<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">queries per second, one thread</text>' % (height / 2))
    order = sorted(shown, key=lambda s: (not s.startswith("redkite"), s != PEER, s))
    for i, system in enumerate(order):
        colour, ours = COLOURS[i % len(COLOURS)], system.startswith("redkite")
        line = " ".join("%.1f,%.1f" % (x(r), y(q)) for r, q in shown[system])
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="%s"/>' % (line, colour, 2.6 if ours else 1.4))
        out += ['<circle cx="%.1f" cy="%.1f" r="%s" fill="%s"/>' % (x(r), y(q), 3.4 if ours else 2.4, colour) for r, q in shown[system]]
        out.append('<text x="%d" y="%d" fill="%s"%s>%s</text>' % (width - right + 14, top + 14 + 18 * i, colour, ' font-weight="bold"' if ours else "", system))
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def filter_table(name, setting, path):
    cells, shares, shapes, system = {}, [], [], ""
    for line in open(path):
        _, system, shape, share, recall, qps, ratio = line.split()
        cells[shape, share] = (float(recall), float(qps), float(ratio))
        if shape not in shapes:
            shapes.append(shape)
        if share not in shares and shape != "none":
            shares.append(share)
    shapes.remove("none")
    recall, qps, _ = cells["none", "100"]
    print("\n#### %s: %s under filters\n\n%s; without a filter %.0f queries/s at recall %.3f. Share of the unfiltered speed (recall):\n" %
          (name, system, setting, qps, recall))
    print("| passing |" + "".join(" %s |" % shape for shape in shapes))
    print("|" + " --- |" * (len(shapes) + 1))
    for share in shares:
        print("| %s %% |" % share + "".join(" %.0f %% (%.3f) |" % (100 * cells[s, share][2], cells[s, share][0]) for s in shapes))
    found = [(ratio, recall, shape, share) for (shape, share), (recall, _, ratio) in cells.items()]
    ratio, _, shape, share = min(found)
    low = min(found, key=lambda f: f[1])
    print("\nSlowest: %s at %s %%, %.0f %% of the unfiltered speed. Least recall: %.3f, %s at %s %%." % (shape, share, 100 * ratio, low[1], low[2], low[3]))


if __name__ == "__main__":
    if sys.argv[1] == "search":
        search(*sys.argv[2:6])
    else:
        filter_table(*sys.argv[2:5])
