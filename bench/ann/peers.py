# SPDX-License-Identifier: Apache-2.0
"""Vector index benchmark, the peers that a user installs from PyPI. Same data files and lines as ann.c.

    peers.py build SYSTEM DATA INDEX THREADS
    peers.py search SYSTEM single|batch DATA INDEX SETTING...
    peers.py systems                                the names below

`single` hands over one query at a time, as a service does; the call from Python is part of it (1 to 10 microseconds). `batch` hands over
1,000 queries in one call, which some libraries live off. One thread either way, CPU time of the process. A system whose package is missing, or
that refuses this CPU, ends with status 3 and says why.
"""
import json
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    if sys.argv[1:2] == ["search"]:
        os.environ[name] = "1"

try:
    import numpy as np
except ImportError:
    print("numpy is not installed", file=sys.stderr)
    sys.exit(3)

K = 10
SECONDS = float(os.environ.get("ANN_SECONDS") or 1)


class Data:
    def __init__(self, path):
        rows, queries, dim, k, metric, _ = np.fromfile(path, "<u4", 6).tolist()
        at = 24
        self.base = np.fromfile(path, "<f4", rows * dim, offset=at).reshape(rows, dim)
        at += rows * dim * 4
        self.query = np.fromfile(path, "<f4", queries * dim, offset=at).reshape(queries, dim)
        at += queries * dim * 4
        self.truth = np.fromfile(path, "<u4", queries * k, offset=at).reshape(queries, k)
        self.rows, self.dim = rows, dim

    def recall(self, found):
        return (found[:, :K, None] == self.truth[:, None, :K]).any(2).sum() / self.truth[:, :K].size


def pairs(setting):
    return {key: float(value) for key, value in (pair.split("=") for pair in setting.split(","))}


class Faiss:
    """IVF with product codes or one-bit codes scanned 32 at a time, and a graph over 8-bit codes; refined on f32 where named so."""

    def __init__(self, system, threads):
        import faiss
        self.faiss, self.system = faiss, system
        faiss.omp_set_num_threads(threads)

    def build(self, data, path):
        nlist = max(64, 1 << int(np.log2(4 * data.rows ** 0.5)))
        factory = {"faiss-ivfpqfs": "IVF%d,PQ%dx4fs,RFlat" % (nlist, data.dim // 4), "faiss-ivfrabitq": "IVF%d,RaBitQfs,Refine(SQ8)" % nlist,
                   "faiss-hnswsq8": "HNSW32,SQ8"}[self.system]
        index = self.faiss.index_factory(data.dim, factory)
        if self.system == "faiss-hnswsq8":
            index = self.faiss.IndexHNSWSQ(data.dim, self.faiss.ScalarQuantizer.QT_8bit, 32)
            index.hnsw.efConstruction = 200
        base = data.base
        start = clocks()
        index.train(base[np.random.default_rng(1).choice(data.rows, min(data.rows, 256 * 1024), replace=False)])
        index.add(base)
        used = clocks(start)
        self.faiss.write_index(index, path)
        return used

    def open(self, data, path):
        self.index = self.faiss.read_index(path)
        self.params = None

    def set(self, p):
        f = self.faiss
        if self.system == "faiss-hnswsq8":
            self.index.hnsw.efSearch = int(p["ef"])
        else:
            f.downcast_index(self.index.base_index).nprobe = int(p["nprobe"])
            self.index.k_factor = p["refine_k"]

    def search(self, queries):
        return self.index.search(queries, K)[1]

    one = search


class Usearch:
    def __init__(self, system, threads):
        from usearch.index import Index
        self.Index, self.threads = Index, threads
        self.dtype = {"usearch-f32": "f32", "usearch-i8": "i8"}[system]

    def scaled(self, rows):  # i8 takes values in [-1, 1]
        return rows if self.dtype == "f32" else rows * self.scale

    def make(self, data):
        self.scale = 1 / float(np.abs(data.base[:10000]).max())
        return self.Index(ndim=data.dim, metric="l2sq", dtype=self.dtype, connectivity=16, expansion_add=200)

    def build(self, data, path):
        index = self.make(data)
        base = self.scaled(data.base)
        start = clocks()
        index.add(np.arange(data.rows), base, threads=self.threads)
        used = clocks(start)
        index.save(path)
        return used

    def open(self, data, path):
        self.index = self.make(data)
        self.index.load(path)

    def set(self, p):
        self.index.expansion_search = int(p["ef"])

    def search(self, queries):
        return self.index.search(self.scaled(queries), K, threads=1).keys

    def one(self, query):
        return self.index.search(self.scaled(query[0]), K, threads=1).keys


class Svs:
    """Vamana over f32, and over the library's own codes where it lets this CPU use them."""

    def __init__(self, system, threads):
        import svs
        if system == "svs-lvq" and "GenuineIntel" not in open("/proc/cpuinfo").read():
            raise RuntimeError("its codes run on Intel's CPUs alone")
        self.svs, self.system, self.threads = svs, system, threads

    def build(self, data, path):
        svs = self.svs
        base = data.base
        p = svs.VamanaBuildParameters(graph_max_degree=64, window_size=200, alpha=1.2)
        if self.system == "svs-lvq":
            svs.write_vecs(base, path + ".fvecs")
        start = clocks()
        if self.system == "svs-lvq":
            base = svs.LVQLoader(svs.VectorDataLoader(path + ".fvecs", svs.float32, data.dim), primary=4, residual=8)
        index = svs.Vamana.build(p, base, svs.DistanceType.L2, num_threads=self.threads)
        used = clocks(start)
        os.makedirs(path, exist_ok=True)
        index.save(path + "/config", path + "/graph", path + "/data")
        return used

    def open(self, data, path):
        svs = self.svs
        kind = svs.VectorDataLoader(path + "/data", svs.float32)
        if self.system == "svs-lvq":
            kind = svs.LVQLoader(path + "/data")
        self.index = svs.Vamana(path + "/config", svs.GraphLoader(path + "/graph"), kind, svs.DistanceType.L2, num_threads=1)

    def set(self, p):
        self.index.search_window_size = int(p["ef"])

    def search(self, queries):
        return self.index.search(queries, K)[0]

    one = search


class Vsag:
    """The graph of vsag over 8-bit or one-bit codes, refined on f32."""

    def __init__(self, system, threads):
        import pyvsag
        pyvsag.set_logger_off()
        self.pyvsag, self.system, self.threads = pyvsag, system, threads

    def make(self, data):
        index = {"base_quantization_type": self.system.split("-")[1], "use_reorder": True, "precise_quantization_type": "fp32",
                 "max_degree": 32, "ef_construction": 200, "build_thread_count": self.threads}
        if self.system == "vsag-rabitq":
            index["rabitq_use_fht"] = True
        return self.pyvsag.Index("hgraph", json.dumps({"dtype": "float32", "metric_type": "l2", "dim": data.dim, "index_param": index}))

    def build(self, data, path):
        index = self.make(data)
        base = data.base.reshape(-1)
        start = clocks()
        index.build(base, np.arange(data.rows), data.rows, data.dim)
        used = clocks(start)
        index.save(path)
        return used

    def open(self, data, path):
        self.index = self.make(data)
        self.index.load(path)

    def set(self, p):
        self.setting = json.dumps({"hgraph": {"ef_search": int(p["ef"])}})

    def one(self, query):
        return self.index.knn_search(query[0], K, self.setting)[0]

    def search(self, queries):  # the package has no call for many
        return np.array([self.one(queries[i:i + 1]) for i in range(len(queries))])


SYSTEMS = {"faiss-ivfpqfs": Faiss, "faiss-ivfrabitq": Faiss, "faiss-hnswsq8": Faiss, "usearch-f32": Usearch, "usearch-i8": Usearch,
           "svs-vamana": Svs, "svs-lvq": Svs, "vsag-sq8": Vsag, "vsag-rabitq": Vsag}


def clocks(start=None):
    now = time.monotonic(), time.process_time()
    return now if start is None else tuple(a - b for a, b in zip(now, start))


def size_of(path):
    if os.path.isdir(path):
        return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)
    return os.path.getsize(path)


def build(system, path, index, threads):
    data = Data(path)
    wall, cpu = SYSTEMS[system](system, int(threads)).build(data, index)
    print("build %s %.2f %.2f %.0f %.1f 0" % (system, wall, cpu, data.rows / wall, size_of(index) / data.rows))


def search(system, mode, path, index, settings):
    data = Data(path)
    peer = SYSTEMS[system](system, 1)
    peer.open(data, index)
    queries = [data.query[i:i + 1] for i in range(len(data.query))]
    for setting in settings:
        peer.set(pairs(setting))
        if mode == "batch":
            recall = data.recall(np.asarray(peer.search(data.query)))
        else:
            recall = data.recall(np.array([np.asarray(peer.one(q)).reshape(-1)[:K] for q in queries]))
        rounds, start = 0, time.process_time()
        while rounds == 0 or time.process_time() - start < SECONDS:
            if mode == "batch":
                peer.search(data.query)
            else:
                for q in queries:
                    peer.one(q)
            rounds += 1
        print("%s %s %.4f %.0f" % (system, setting, recall, rounds * len(queries) / (time.process_time() - start)), flush=True)
        if recall >= 0.995:
            break


def main(arguments):
    try:
        if arguments[:1] == ["build"] and len(arguments) == 5:
            build(*arguments[1:])
        elif arguments[:1] == ["search"] and len(arguments) > 5:
            search(*arguments[1:5], arguments[5:])
        elif arguments == ["systems"]:
            print(*SYSTEMS)
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (ImportError, RuntimeError, AttributeError) as error:
        print("%s: %s" % (arguments[1], str(error).strip().split("\n")[0]), file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
