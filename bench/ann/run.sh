#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Vector indexes against their peers, all in process on the same data, pinned to one core, taken in turn: queries per second at equal recall,
# rows per second of a build, bytes per row; as tables and as one plot (SVG) per data set.
#
#   bench/ann/run.sh [OPTION]...
#     --data FILE        a data set: FILE.i8bin (real embeddings) or a data file of these programs; may be given again
#     --sets NAMES       made data sets (affine, sift, random), "" for none; default: affine when there is no --data
#     --rows N           base rows of each set at most; default: 20000 of made sets (RK_BENCH_ROWS), all of a --data; full: affine 200000, sift 1000000
#     --images FILE      an IDX file of 28 x 28 images (.gz or not) for affine and sift; without it, strokes are drawn
#     --systems NAMES    who takes part; default: all; "--systems list" prints the names
#     --repeats N        rounds, of which medians are taken; default 5
#     --seconds S        CPU seconds of every point of a sweep; default 0.5
#     --threads N        threads of a build; default 2
#     --core N           the core that searches are pinned to; default: the last
#     --no-batch         without the second table (1,000 queries in one call)
#     --mapped           Redkite's vectors stay in a mapped file, only the index is in memory
#     --filter           Redkite under filters instead: share of the unfiltered speed, recall; filters that were seen before
#     --first            filters that are seen for the first time
#     --record           appends the tables to bench/RESULTS.md, plots go to bench/plots
#
# Data, exact answers and the peers' indexes are kept in RK_BENCH_WORK (build/bench-ann), so a second run is cheap; Redkite's index is built anew
# when its library changed. M, EFC (16, 200) hold for every HNSW. Peers that cannot be had are skipped with a line that says why.
set -eu
cd "$(dirname "$0")/../.."
export RK_BENCH_WORK=${RK_BENCH_WORK:-$PWD/build/bench-ann}
. bench/common.sh
command="bench/ann/run.sh $*"

data=() sets= sets_given=0 rows= images= systems= repeats=${REPEATS:-5} seconds=0.5 threads=2 core=$(($(nproc) - 1))
batch=1 filter=0 record=0
M=${M:-16} EFC=${EFC:-200}
while [ $# -gt 0 ]; do
    case $1 in
    --data) data+=("$(realpath "$2")"); shift ;;
    --sets) sets=$2 sets_given=1; shift ;;
    --rows) rows=$2; shift ;;
    --images) images=$(realpath "$2"); shift ;;
    --systems) systems=$2; shift ;;
    --repeats) repeats=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --threads) threads=$2; shift ;;
    --core) core=$2; shift ;;
    --no-batch) batch=0 ;;
    --mapped) export ANN_MAPPED=1 ;;
    --filter) filter=1 ;;
    --first) export ANN_FIRST=1 ;;
    --record) record=1 ;;
    *) sed -n '3,28p' "$0" >&2; exit 2 ;;
    esac
    shift
done
[ $sets_given = 1 ] || [ ${#data[@]} -gt 0 ] || sets=affine

ours="redkite-hnsw redkite-ivf-rabitq redkite-scann redkite-ivf-flat redkite-auto"
more="redkite-flat redkite-hnsw-sq redkite-hnsw-pq redkite-hnsw-prq redkite-ivf-sq8 redkite-ivf-pq" # only when named
peers="faiss-ivfpqfs faiss-ivfrabitq faiss-hnswsq8 usearch-f32 usearch-i8 svs-vamana svs-lvq vsag-sq8 vsag-rabitq"
if [ "$systems" = list ]; then
    echo "$ours hnswlib $peers; when named: $more"
    exit 0
fi
systems=${systems:-$ours hnswlib $peers}
[ $filter = 0 ] || systems=$(for s in $systems; do case $s in redkite-*) echo "$s" ;; esac; done)

work=$RK_BENCH_WORK
root=$PWD
build=${RK_BUILD:-$root/build/release}
mkdir -p "$work/bin"
export ANN_SECONDS=$seconds

# ---- programs ----

library=$build/src/index/librk_index.a
if [ ! -s "$library" ]; then
    echo "there is no $library: run scripts/build first" >&2
    exit 1
fi
stamp=$(cat "$library" "$build/src/base/librk_base.a" | cksum | cut -d' ' -f1)
libs=("$library" "$build/src/base/librk_base.a" -lxxhash -lyaml -lpthread -lm)
cc="${CC:-cc} -std=c17 -D_GNU_SOURCE -O3 -Isrc"
$cc -o "$work/bin/ann" bench/ann/ann.c bench/ann/ann_filter.c bench/ann/ann_make.c "${libs[@]}"
$cc -o "$work/bin/make_images" bench/ann/make_images.c bench/ann/ann_make.c "${libs[@]}"
ann=$work/bin/ann

has() { # PATTERN: is one of the systems like it?
    # shellcheck disable=SC2254
    for s in $systems; do case $s in $1) return 0 ;; esac; done
    return 1
}
if has hnswlib && ! ${CXX:-c++} -O3 -march=native -pthread -o "$work/bin/ann_hnswlib" bench/ann/ann_hnswlib.cpp 2>"$work/bin/cxx.log"; then
    echo "hnswlib: skipped: $(grep -m 1 error "$work/bin/cxx.log") (Debian: libhnswlib-dev)" >&2
    systems=$(for s in $systems; do [ "$s" = hnswlib ] || echo "$s"; done)
fi
python=$root/build/ann-venv/bin/python
if has 'faiss-*' || has 'usearch-*' || has 'svs-*' || has 'vsag-*'; then
    [ -x "$python" ] || python3 -m venv "$root/build/ann-venv" >"$work/bin/venv.log" 2>&1 || echo "no Python environment: $(tail -1 "$work/bin/venv.log")" >&2
    for package in $(cat bench/ann/requirements.txt); do
        if [ -x "$python" ] && [ ! -e "$root/build/ann-venv/$package" ]; then
            if "$python" -m pip install -q --disable-pip-version-check --no-input "$package" >"$work/bin/pip.log" 2>&1; then
                : >"$root/build/ann-venv/$package"
            else
                echo "$package: skipped: $(grep -m 1 -i error "$work/bin/pip.log" || echo "pip failed")" >&2
            fi
        fi
    done
fi

# ---- what a system is called with ----

graph_sweep="ef=12 ef=20 ef=32 ef=50 ef=80 ef=125 ef=200 ef=320 ef=500 ef=800"
list_sweep=
for probe in 4 8 16 32 64 128 256; do
    for refine in $((probe < 32 ? 2 : 4)) 16; do list_sweep+=" nprobe=$probe,refine_k=$refine"; done
done

bit_sweep= # the second step of one-bit codes has a bound of its own: refine_k widens it
for probe in 4 8 16 32 64 128 256 512; do
    for refine in 1 8; do bit_sweep+=" nprobe=$probe,refine_k=$refine"; done
done

nlist_of() { awk -v n="$1" 'BEGIN { l = 64; while (l * 2 <= 4 * sqrt(n)) l *= 2; print l }'; } # ROWS: the power of two at 4 sqrt(n)
build_args() { # SYSTEM ROWS DIM: kind and parameters of Redkite
    case $1 in
    redkite-hnsw) echo "HNSW $threads M=$M efConstruction=$EFC" ;;
    redkite-hnsw-sq) echo "HNSW_SQ $threads M=$M efConstruction=$EFC sq_type=SQ8 refine=true refine_type=FP32" ;;
    redkite-hnsw-pq) echo "HNSW_PQ $threads M=$M efConstruction=$EFC m=$(($3 / 4)) refine=true refine_type=FP32" ;;
    redkite-hnsw-prq) echo "HNSW_PRQ $threads M=$M efConstruction=$EFC m=$(($3 / 8)) nrq=2 refine=true refine_type=FP32" ;;
    redkite-ivf-sq8) echo "IVF_SQ8 $threads nlist=$(nlist_of "$2") refine=true refine_type=FP32" ;;
    redkite-ivf-pq) echo "IVF_PQ $threads nlist=$(nlist_of "$2") m=$(($3 / 4)) refine=true refine_type=FP32" ;;
    redkite-scann) echo "SCANN $threads nlist=$(nlist_of "$2")" ;;
    redkite-flat) echo "FLAT $threads" ;;
    redkite-ivf-rabitq) echo "IVF_RABITQ $threads nlist=$(nlist_of "$2") refine=true refine_type=FLAT" ;;
    redkite-ivf-flat) echo "IVF_FLAT $threads nlist=$(nlist_of "$2")" ;;
    redkite-auto) echo "AUTOINDEX $threads" ;;
    esac
}
sweep_of() { # SYSTEM
    case $1 in
    redkite-ivf-flat) echo "nprobe=1 nprobe=2 nprobe=4 nprobe=8 nprobe=16 nprobe=32 nprobe=64 nprobe=128" ;;
    redkite-ivf-rabitq) echo "$bit_sweep" ;;
    redkite-ivf-sq8 | redkite-ivf-pq | faiss-ivf*) echo "$list_sweep" ;;
    redkite-scann) echo "$list_sweep" | sed -E 's/refine_k=([0-9]+)/reorder_k=\10/g' ;; # refine_k times k
    redkite-hnsw-*) for ef in ${graph_sweep//ef=/}; do echo "ef=$ef,refine_k=2"; done ;;
    redkite-flat) echo "-" ;;
    redkite-auto) echo "target_recall=0.8 target_recall=0.9 target_recall=0.95 target_recall=0.97 target_recall=0.99 target_recall=0.995" ;;
    *) echo "$graph_sweep" ;;
    esac
}
build_one() { # SYSTEM DATA FOLDER ROWS DIM
    local image=$3/$1.index line=$3/$1.build
    case $1 in
    redkite-*)
        # shellcheck disable=SC2046
        set -- "$1" "$2" "$3" "$stamp $(build_args "$1" "$4" "$5")"
        [ "$(cat "$line.stamp" 2>/dev/null)" = "$4" ] && return 0
        rm -f "$image"
        # shellcheck disable=SC2086
        "$ann" build "$1" "$2" "$image" ${4#* } >"$line" && echo "$4" >"$line.stamp"
        ;;
    hnswlib) [ -s "$line" ] || "$work/bin/ann_hnswlib" build "$2" "$image" "$M" "$EFC" "$threads" >"$line" ;;
    *) [ -s "$line" ] || "$python" bench/ann/peers.py build "$1" "$2" "$image" "$threads" 2>"$line.log" >"$line.new" || { tail -1 "$line.log" >&2; return 1; }
        [ -s "$line" ] || sed -n '/^build /p' "$line.new" >"$line" ;;
    esac
}
search_one() { # SYSTEM single|batch DATA FOLDER
    # shellcheck disable=SC2046
    case $1:$2 in
    redkite-*:batch) taskset -c "$core" "$ann" batch "$1" "$3" "$4/$1.index" $(sweep_of "$1") ;;
    redkite-*) taskset -c "$core" "$ann" search "$1" "$3" "$4/$1.index" $(sweep_of "$1") ;;
    hnswlib:*) taskset -c "$core" "$work/bin/ann_hnswlib" search "$3" "$4/$1.index" $(sweep_of "$1") ;;
    *) taskset -c "$core" "$python" bench/ann/peers.py search "$1" "$2" "$3" "$4/$1.index" $(sweep_of "$1") 2>"$4/$1.log" | grep "^$1 " ;;
    esac
}

# ---- data ----

files=()
for name in $sets; do
    n=${rows:-${RK_BENCH_ROWS:-20000}}
    case $name in
    affine) [ "$n" -le 200000 ] || n=200000 ;;
    sift | random) [ "$n" -le 1000000 ] || n=1000000 ;;
    *) echo "no data set '$name': affine, sift or random" >&2; exit 2 ;;
    esac
    file=$work/$name-$n
    [ -z "$images" ] || [ "$name" = random ] || file=$work/$name-$(basename "${images%.gz}" | tr -c 'a-zA-Z0-9\n' -)-$n
    if [ ! -s "$file" ]; then
        case $name:$images in
        random:*) "$ann" make "$file.new" "$n" 128 24 1 ;;
        *:) "$work/bin/make_images" "$name" "$file.new" "$n" 1 ;;
        *)
            case $images in *.gz) gzip -dc "$images" ;; *) cat "$images" ;; esac >"$work/images"
            "$work/bin/make_images" "$name" "$file.new" "$n" 1 "$work/images"
            ;;
        esac
        mv "$file.new" "$file"
    fi
    files+=("$file")
done
for given in ${data[@]+"${data[@]}"}; do
    file=$given
    if [ "${given%.i8bin}" != "$given" ]; then
        file=$work/$(basename "$given" .i8bin)
        [ -s "$file" ] || { "$ann" load "$file.new" "$given" && mv "$file.new" "$file"; }
    fi
    if [ -n "$rows" ] && [ "$rows" -lt "$(od -An -tu4 -N4 "$file" | tr -d ' ')" ]; then
        whole=$file file=$work/$(basename "$file")-$rows
        [ -s "$file" ] || { "$ann" cut "$whole" "$file.new" "$rows" && mv "$file.new" "$file"; }
    fi
    files+=("$file")
done

# ---- runs ----

: >"$work/result"
for file in "${files[@]}"; do
    name=$(basename "$file") folder=$work/$(basename "$file").d
    read -r n _ dim _ < <(od -An -tu4 -N16 "$file")
    mkdir -p "$folder"
    taking_part=
    for system in $systems; do
        if why=$(build_one "$system" "$file" "$folder" "$n" "$dim" 2>&1); then
            taking_part+=" $system"
        else
            echo "$name: $system: skipped: ${why##*$'\n'}" >&2
        fi
    done
    if [ $filter = 1 ]; then
        for system in $taking_part; do
            setting=$("$ann" search "$system" "$file" "$folder/$system.index" $(sweep_of "$system") | awk '$3 >= 0.95 { print $2; exit }')
            if [ -n "$setting" ]; then
                taskset -c "$core" "$ann" filter "$system" "$file" "$folder/$system.index" "$setting" >"$folder/$system.filter"
                python3 bench/ann/table.py filter "$name" "$setting" "$folder/$system.filter" >>"$work/result"
            else
                echo "$name: $system: no setting reaches recall 0.95" >&2
            fi
        done
        continue
    fi
    : >"$folder/single"
    : >"$folder/batch"
    for round in $(seq "$repeats"); do
        for system in $taking_part; do
            echo "$name: round $round of $repeats: $system" >&2
            search_one "$system" single "$file" "$folder" >>"$folder/single" || echo "$name: $system: search failed" >&2
        done
        for system in $taking_part; do
            case $batch:$system in
            1:redkite-* | 1:faiss-* | 1:usearch-* | 1:svs-*) search_one "$system" batch "$file" "$folder" >>"$folder/batch" || true ;;
            esac
        done
    done
    for system in $taking_part; do cat "$folder/$system.build"; done >"$folder/builds"
    python3 bench/ann/table.py search "$name" "$file" "$folder" "$work/$name.svg" >>"$work/result"
    if [ "$record" = 1 ]; then
        mkdir -p bench/plots
        cp "$work/$name.svg" "bench/plots/$name.svg"
        printf '\n![%s](plots/%s.svg)\n' "$name" "$name" >>"$work/result"
    else
        echo "plot: $work/$name.svg" >&2
    fi
done
bench_record "$command" "$work/result"
