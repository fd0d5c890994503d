# SPDX-License-Identifier: Apache-2.0
"""
The filter language through the client: every line of the language's test table that concerns a type built in. A valid
expression must find the rows a Python function picks, in growing and in sealed segments; an invalid one must be refused
with the public head of the message.
"""
from pymilvus import DataType

from helpers import check_error, create, ids_where
from runner import case

D = DataType
FIELDS = [("id", D.INT64, {"is_primary": True}), ("v", D.FLOAT_VECTOR, {"dim": 2}), ("i8", D.INT8, {}),
          ("n", D.INT64, {"nullable": True}), ("f", D.FLOAT, {}), ("d", D.DOUBLE, {}), ("b", D.BOOL, {}),
          ("s", D.VARCHAR, {"max_length": 100}), ("j", D.JSON, {"nullable": True}),
          ("arr", D.ARRAY, {"element_type": D.INT64, "max_capacity": 20}),
          ("sarr", D.ARRAY, {"element_type": D.VARCHAR, "max_length": 20, "max_capacity": 20})]
TEXTS = ["", "abc", "abd", "xaxbx", "50%", "it's", 'say "x"', "abc\\\\\\", "ab", "a\nb", "\u00e9t\u00e9", "123", "A", "ab1"]
JSONS = [None, {"a": 5}, {"a": 3.0}, {"a": "5"}, {"a": None}, {"a": {"b": [2, 1]}}, {"k": 2, "t": [[1, 2], 3, "x"]},
         {"k": "x"}, {"k": True}, {"k": 2.5}, {}, [1, 2], {"a": []}, {"a": {"x": None}}, {"t": []}]
KEYS = [None, 1, "1", 2.5, True, [1], {"z": 1}]


def make_rows():
    rows = []
    for i in range(90):
        n = [None, 0, 1, 2, 3, 4, 5, 8, 31, -1, -9223372036854775808, 9, 15][i % 13]
        row = {"id": i, "v": [i, 1], "i8": (i * 5) % 256 - 128, "n": n, "f": [0.1, 1.5, -2.0, 8.0][i % 4],
               "d": [8.5, 0.5, 1.0, 8.0, -3.25, 1e300][i % 6], "b": i % 2 == 0, "s": TEXTS[i % len(TEXTS)],
               "j": JSONS[i % len(JSONS)], "arr": list(range(i % 5, i % 5 + i % 4)), "sarr": ["s%d" % k for k in range(i % 3)]}
        if i % 3:
            row["k"] = KEYS[i % len(KEYS)]
        if i % 4 == 0:
            row["foo"] = i
        rows.append(row)
    return rows


def num(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def at(r, *path, root="j"):
    """The value at a path, or ... when there is none."""
    x = r[root] if root else r
    for step in path:
        if isinstance(x, dict) and step in x:
            x = x[step]
        elif isinstance(x, list) and isinstance(step, int) and step < len(x):
            x = x[step]
        else:
            return ...
    return x


def absent(x):
    if x is ... or x is None:
        return True
    if isinstance(x, dict):
        return all(absent(y) for y in x.values())
    return isinstance(x, list) and all(absent(y) for y in x)


def n_is(test):
    return lambda r: r["n"] is not None and test(r["n"])


def j_num(path, test, root="j"):
    return lambda r: num(at(r, *path, root=root)) and test(at(r, *path, root=root))


def key(r):
    return r.get("k", ...)


VALID = [
    ("n>1and b==true", n_is(lambda n: n > 1), lambda r: r["b"]),
    ("n == 0x1F or n == 0b11 or n == 017", n_is(lambda n: n in (31, 3, 15))),
    ("d == 08.5", lambda r: r["d"] == 8.5), ("d == .5", lambda r: r["d"] == 0.5), ("d == 1.", lambda r: r["d"] == 1),
    ("d == 0x1p3", lambda r: r["d"] == 8), ("d > 1e299", lambda r: r["d"] == 1e300),
    ("n == -9223372036854775808", n_is(lambda n: n == -2**63)),
    ("d == 1", lambda r: r["d"] == 1), ("f == 0.1", lambda r: r["f"] == 0.1), ("f >= 1.5", lambda r: r["f"] in (1.5, 8.0)),
    ("i8 == 300", lambda r: False), ("i8 != 300", lambda r: True), ("i8 < 300", lambda r: True),
    ("i8 > -129", lambda r: True), ("i8 >= 100", lambda r: r["i8"] >= 100),
    ("5 < n", n_is(lambda n: n > 5)), ("1 < n <= 5", n_is(lambda n: 1 < n <= 5)), ("5 >= n > 1", n_is(lambda n: 5 >= n > 1)),
    ("1 < n < 2 + 3", n_is(lambda n: 1 < n < 5)), ("3 <= n <= 3", n_is(lambda n: n == 3)), ("n > 5 and n < 1", lambda r: False),
    ('1 < j["k"] < 2.5', j_num(["k"], lambda x: 1 < x < 2.5)), ("n < d", n_is(lambda n: True), lambda r: r["n"] < r["d"]),
    ("b == true", lambda r: r["b"]), ("b != False", lambda r: r["b"]),
    ("not (n > 1)", n_is(lambda n: n <= 1)), ("!(n > 1)", n_is(lambda n: n <= 1)), ("!!(n > 1)", n_is(lambda n: n > 1)),
    ('not s like "a%"', lambda r: not r["s"].startswith("a")), ("not s is null", lambda r: True),
    ("n IS NULL", lambda r: r["n"] is None), ("n is not null", lambda r: r["n"] is not None),
    ("not n is null", lambda r: r["n"] is not None),
    ("n != 5", n_is(lambda n: n != 5)), ("not (n == 5)", n_is(lambda n: n != 5)),
    ("false", lambda r: False), ('"a" < "b" and n > 1', n_is(lambda n: n > 1)), ("true and n > 1", n_is(lambda n: n > 1)),
    ("false or n > 1", n_is(lambda n: n > 1)),
    ("n in [1, 2, 3,]", n_is(lambda n: n in (1, 2, 3))), ("n in ([1,2])", n_is(lambda n: n in (1, 2))),
    ("n in []", lambda r: False), ("n not in []", n_is(lambda n: True)), ('j["k"] not in []', lambda r: True),
    ('j["k"] in []', lambda r: False), ("n in [1+1, -3, 2**3]", n_is(lambda n: n in (2, -3, 8))),
    ("n ! in [1]", n_is(lambda n: n != 1)), ("n not in [1, 2]", n_is(lambda n: n not in (1, 2))),
    ("id in [3, 4, 500]", lambda r: r["id"] in (3, 4)), ("id == 17", lambda r: r["id"] == 17),
    ("5 <= id < 8 or id >= 88", lambda r: r["id"] in (5, 6, 7, 88, 89)),
    ('j["k"] in [31, 32, 33, 34, 35, 36, 37, 38, 39, 30, 40, 41, true]', lambda r: at(r, "k") is True),
    ('j["k"] in [1, "x", true, 2.5]', lambda r: at(r, "k") == "x" or at(r, "k") is True or
        (num(at(r, "k")) and at(r, "k") in (1, 2.5))),
    ('s == "it\'s" or s == \'say "x"\'', lambda r: r["s"] in ("it's", 'say "x"')),
    (r's like "50\\%"', lambda r: r["s"] == "50%"), (r's like r"50\%"', lambda r: r["s"] == "50%"),
    ('s like "%a%b%"', lambda r: "a" in r["s"] and "b" in r["s"][r["s"].index("a"):]),
    ('s like "a_"', lambda r: len(r["s"]) == 2 and r["s"][0] == "a"), ('s like "%"', lambda r: True),
    ('s like ""', lambda r: r["s"] == ""), ('s like "%b"', lambda r: r["s"].endswith("b")),
    ('s like "_t_"', lambda r: r["s"] == "\u00e9t\u00e9"), ('s like "a%b"', lambda r: r["s"] in ("ab", "a\nb")),
    ('s like "%xb%"', lambda r: "xb" in r["s"]), (r's like r"abc\\\\\\"', lambda r: r["s"] == "abc\\\\\\"),
    (r's =~ "\d+"', lambda r: any(c.isdigit() for c in r["s"])), (r's !~ r"^ab"', lambda r: not r["s"].startswith("ab")),
    ('s =~ "(?i)^a$"', lambda r: r["s"] == "A"),
    ('s < "abd"', lambda r: r["s"].encode() < b"abd"), ('"ab" <= s <= "abc"', lambda r: b"ab" <= r["s"].encode() <= b"abc"),
    ('s in ["ab", "50%"]', lambda r: r["s"] in ("ab", "50%")), ('s != ""', lambda r: r["s"] != ""),
    ("n + 1 == 3", n_is(lambda n: n == 2)), ("1 + n == 3", n_is(lambda n: n == 2)),
    ("n % 2 == 0", n_is(lambda n: n % 2 == 0)), ("n--1 == 2", n_is(lambda n: n == 1)), ("n * 3 > 20", n_is(lambda n: n * 3 > 20)),
    ("n / 2 == 2", n_is(lambda n: n in (4, 5))), ("d + 0.5 == 9.0", lambda r: r["d"] == 8.5), ("f * 2 == 3", lambda r: r["f"] == 1.5),
    ("(n & 4) == 4", n_is(lambda n: n & 4)),
    ('j["a"]["b"][0] > 1', lambda r: at(r, "a", "b", 0) == 2), ('$meta["k"] == 1', lambda r: num(key(r)) and key(r) == 1),
    ("k == 1", lambda r: num(key(r)) and key(r) == 1), ('k == "1"', lambda r: key(r) == "1"),
    ("k == true", lambda r: key(r) is True), ("foo >= 40", lambda r: r.get("foo", -1) >= 40),
    ('j["a"] != 5', j_num(["a"], lambda x: x != 5)), ('not (j["a"] == 5)', j_num(["a"], lambda x: x != 5)),
    ('j["a"] == 3', j_num(["a"], lambda x: x == 3)), ('j["a"] == "5"', lambda r: at(r, "a") == "5"),
    ('exists j["a"]', lambda r: not absent(at(r, "a"))), ("exists foo", lambda r: "foo" in r),
    ('not exists j["a"]', lambda r: absent(at(r, "a"))), ('j["a"] is null', lambda r: absent(at(r, "a"))),
    ("foo is null", lambda r: "foo" not in r), ("j is null", lambda r: r["j"] is None),
    ('json_contains(j["t"], [1,2])', lambda r: r["j"] == JSONS[6]), ('json_contains(j["t"], 3)', lambda r: r["j"] == JSONS[6]),
    ('JSON_CONTAINS_ANY(j["t"], ["x", 9])', lambda r: r["j"] == JSONS[6]),
    ('json_contains_all(j["t"], ["x", 3])', lambda r: r["j"] == JSONS[6]),
    ('json_contains_all(j["t"], ["x", 4])', lambda r: False),
    ("array_contains_all(arr, [])", lambda r: True), ("array_contains(arr, 3)", lambda r: 3 in r["arr"]),
    ("array_contains_any(arr, [0, 6])", lambda r: 0 in r["arr"] or 6 in r["arr"]),
    ('array_contains(sarr, "s1")', lambda r: "s1" in r["sarr"]), ("arr == [1,2]", lambda r: r["arr"] == [1, 2]),
    ("arr[0] > 3", lambda r: r["arr"] and r["arr"][0] > 3), ("arr == []", lambda r: r["arr"] == []),
    ("arr != []", lambda r: r["arr"] != []), ("array_length(arr) >= 2", lambda r: len(r["arr"]) >= 2),
    ("array_length(sarr) == 0", lambda r: not r["sarr"]), ('sarr[1] like "s%"', lambda r: len(r["sarr"]) > 1),
    ("arr[1] in [2, 3]", lambda r: len(r["arr"]) > 1 and r["arr"][1] in (2, 3)),
    ('starts_with(s, "a") and not empty(s)', lambda r: r["s"].startswith("a")), ("empty(s)", lambda r: r["s"] == ""),
    ("nosuch == 1", lambda r: False), ("(" * 60 + "n > 1" + ")" * 60, n_is(lambda n: n > 1)),
    ("n > 1 or n is null", lambda r: r["n"] is None or r["n"] > 1),
    (" n\t>\n1 ", n_is(lambda n: n > 1)), ("n in [" + ",".join(map(str, range(1, 3000))) + "]", n_is(lambda n: n > 0)),
]

INVALID = [
    "n == 08", "n == 1_000", "n == 0o17", "n == 1L", "n == 0x1and b == true", "n == 9223372036854775808",
    "n == -0x8000000000000000", "d < 1e400", "n == 1.0", "1 < n > 5", "n < 5 < 10", "1 < n + 1 < 5", "5 < n < 1",
    "3 < n <= 3", "1 < n < d", "1 < s < 5", "false < b < true", '1 < j["k"] < "x"', "n < s", 'n == j["k"]', "n == foo",
    "b == tRue", "b == 1", "not n > 1", "not n in [1]", "n is  null", "n Is Null", "n is NULL", "(n) is null", "v is null",
    "arr[0] is null", "n == null", '1 == "1"', "[1] == [1]", "n > 1 AND n < 9 Or b == true", "n in (1, 2)", "n in [,]",
    "n in[1]", 'n in [1, "a"]', "n in [1.5]", "n in [d]", "n in d", "1 in [1]", "n+1 in [2]", "s == 'it''s'", r's == "\d"',
    r's like "50\%"', r's like r"abc\"', "s like 5", "s like n", 'n like "1%"', 's like "a" + "%"', 's =~ "("',
    's =~ "a(?=b)"', "1 - n == 3", "n + i8 == 3", "(n + 1) * 2 == 4", "n / 0 == 1", "1 / 0 == 1", "n % 0 == 0",
    "n + 1.5 > 2", "n + 1 == 2.5", "-n > 5", "n ** 2 == 4", "n & 4 == 4", 'j ["a"] == 1', "j[-1] == 1", "j.a == 1",
    "exists j", "exists n", 'j["a"] + 1 == 3.5', 'json_contains_any(j["t"], 1)', 'array_contains(arr, "x")',
    "array_contains(n, 1)", "arr > [1]", "arr == 1", 'arr["0"] == 1', "arr[0] == 1.5", "1 < array_length(arr) < 3",
    'text_match(s, "a")', "empty(s) == true", "n == 1;", "n = 1", "n <> 1", "n == 1 n == 2", "and n > 1", "n >", "()",
    "n == 1 == true", "(n > 1", "n > 1)", '"', "n == 'a", "\u00e9 == 1", "n == 1 &", "in [1]", "{", "n > {x}", "v == 1",
    "v in [1]", "{a} == {b}",
]
NOT_BOOLEAN = ["b", "n", "s", "1", "n + 1", "arr", '"x"', "j", "k"]
MUST_FAIL_SOMEHOW = ["not b", "b and n > 1", 'Text_Match(s, "a")', "nosuch(s)"]


def wanted(rows, tests):
    return [r["id"] for r in rows if all(test(r) for test in tests)]


def filled(t):
    rows = make_rows()
    name = create(t, FIELDS, [("v", "FLAT", "L2", {})], dynamic=True)
    t.client.insert(name, rows[:45])
    t.client.flush(name)
    t.client.insert(name, rows[45:])
    return name, rows


@case
def table_of_valid_expressions(t):
    name, rows = filled(t)
    wrong = []

    def look(where):
        for expr, *tests in VALID:
            want = wanted(rows, tests)
            try:
                got = ids_where(t.client, name, expr)
            except Exception as error:
                wrong.append("%s: %s: refused: %s" % (where, expr[:80], error))
                continue
            if got != want:
                wrong.append("%s: %s: %s instead of %s" % (where, expr[:80], got, want))
    look("half sealed")
    t.client.flush(name)
    t.client.release_collection(name)
    t.client.load_collection(name)
    look("sealed")
    assert not wrong, "%d expressions:\n%s" % (len(wrong), "\n".join(wrong))


@case
def table_of_invalid_expressions(t):
    name, rows = filled(t)
    wrong = []
    for expr, heads in ([(e, ("failed to create query plan: cannot parse expression: " + e,)) for e in INVALID] +
                        [(e, ("failed to create query plan: predicate is not a boolean expression: " + e,))
                         for e in NOT_BOOLEAN] + [(e, ()) for e in MUST_FAIL_SOMEHOW]):
        try:
            got = t.client.query(name, filter=expr, output_fields=["id"])
            wrong.append("%s: accepted, %d rows" % (expr, len(got)))
            continue
        except Exception as error:
            text = str(error)
            wrong += ["%s: %s" % (expr, text) for head in heads if head not in text]
        try:
            t.client.search(name, data=[[1, 1]], filter=expr, limit=1)
            wrong.append("%s: accepted by a search" % expr)
        except Exception as error:
            wrong += ["search, %s: %s" % (expr, error) for head in heads if head not in str(error)]
    assert not wrong, "%d expressions:\n%s" % (len(wrong), "\n".join(wrong))


@case
def always_true_needs_a_limit(t):
    name, rows = filled(t)
    for expr in ("n > 1 or true", "not false", '"a" == "a"', "id >= 0 || 1 < 2"):
        check_error(lambda: t.client.query(name, filter=expr, output_fields=["id"]), "empty expression should be used with limit")
    for expr in ("", "  ", "true", "1 == 1"):
        check_error(lambda: t.client.query(name, filter=expr, output_fields=["id"]),
                    "empty expression should be used with limit")
        assert len(t.client.query(name, filter=expr, output_fields=["id"], limit=40)) == 40
        assert t.client.query(name, filter=expr, output_fields=["count(*)"])[0]["count(*)"] == 90
    for expr in ("true", "1 == 1"):
        check_error(lambda: t.client.delete(name, filter=expr), "delete plan can't be empty or always true")
    check_error(lambda: t.client.delete(name, filter="n >"), "failed to create delete plan: cannot parse expression: n >")


@case
def hostile_expressions_do_no_harm(t):
    name, rows = filled(t)
    for expr in ("(" * 100000, "not " * 50000 + "(n > 1)", "n > 1 and " * 20000 + "n > 1", "[" * 30000, "-" * 50000 + "1 == n",
                 "n == " + "9" * 100000, 's like "' + "%a" * 5000 + '"', 's =~ "(a*)*(a*)*(a*)*b"', "a" * 200000 + " == 1",
                 "n > 1 or (" * 5000 + "n > 2" + ")" * 5000, 'j["' + "x" * 100000 + '"] == 1'):
        try:
            t.client.query(name, filter=expr, output_fields=["id"], limit=1)
        except Exception as error:
            assert "cannot parse expression" in str(error) or "nesting" in str(error) or "failed to" in str(error), \
                "%s...: %s" % (expr[:30], str(error)[:300])
    assert ids_where(t.client, name, "id == 5") == [5]


@case
def without_dynamic_field(t):
    name = create(t, FIELDS, [("v", "FLAT", "L2", {})])
    check_error(lambda: t.client.query(name, filter="nosuch == 1", output_fields=["id"]), "field nosuch not exist")
    check_error(lambda: t.client.query(name, filter="id > 0", output_fields=["extra"]), "field extra not exist")


@case
def deletes_by_filter(t):
    name, rows = filled(t)
    left = rows
    for expr, *tests in (("n > 5", n_is(lambda n: n > 5)), ('j["a"] == 5', j_num(["a"], lambda x: x == 5)),
                         ("array_length(arr) == 2", lambda r: len(r["arr"]) == 2), ("n is null", lambda r: r["n"] is None),
                         ("foo > 70", lambda r: r.get("foo", 0) > 70)):
        gone = wanted(left, tests)
        got = t.client.delete(name, filter=expr).get("delete_count", 0)
        assert got == len(gone), "%s: %s instead of %d" % (expr, got, len(gone))
        left = [r for r in left if r["id"] not in gone]
        assert ids_where(t.client, name, "id >= 0") == [r["id"] for r in left]
    assert t.client.delete(name, filter="id in [1, 1, 2, 777]")["delete_count"] == 3  # distinct keys, found or not
