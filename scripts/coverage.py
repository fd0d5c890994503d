# SPDX-License-Identifier: Apache-2.0
"""Sums up what gcov says about every object below a build folder: lines that ran, per folder of src."""

import collections
import json
import os
import subprocess
import sys


def line_counts(build):
    """{file: {line: times it ran}}, over all objects that a file was compiled into."""
    counts = collections.defaultdict(dict)
    source = os.getcwd()
    for folder, _, names in os.walk(os.path.join(build, "src")):
        for name in names:
            if not name.endswith(".gcda"):
                continue
            path = os.path.abspath(os.path.join(folder, name))
            out = subprocess.run(["gcov", "--json-format", "--stdout", path], capture_output=True, check=False)
            for text in out.stdout.decode("utf-8", "replace").splitlines():
                if not text.startswith("{"):
                    continue
                for file in json.loads(text)["files"]:
                    where = os.path.relpath(os.path.join(source, file["file"]), source)
                    if not where.startswith("src/"):
                        continue
                    lines = counts[where]
                    for line in file["lines"]:
                        number = line["line_number"]
                        lines[number] = lines.get(number, 0) + line["count"]
    return counts


def main():
    counts = line_counts(sys.argv[1])
    sums = collections.defaultdict(lambda: [0, 0])
    for file, lines in counts.items():
        for key in (os.path.dirname(file), "all"):
            sums[key][0] += sum(1 for times in lines.values() if times)
            sums[key][1] += len(lines)
        if len(sys.argv) > 2:
            ran = sum(1 for times in lines.values() if times)
            print(f"{file}: {100 * ran / max(1, len(lines)):.1f} % of {len(lines)} lines")
    for key in sorted(sums, key=lambda k: (k == "all", k)):
        ran, total = sums[key]
        print(f"{key}: {100 * ran / max(1, total):.1f} % of {total} lines")


main()
