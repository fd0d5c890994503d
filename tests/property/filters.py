# SPDX-License-Identifier: Apache-2.0
"""
Random filter expressions with their meaning: each is a text and a function of a row that returns True, False or None
(unknown). The rules are those of the language: null, a missing JSON path and a value of another kind make a comparison
unknown; and/or/not follow Kleene; null tests and exists have two values; a row passes only when the whole is True.
"""

WORDS = ["", "a", "ab", "abc", "b", "ba", "\u00e9", "A", "a%b", "x_y"]
NUMBERS = [-3, -1, 0, 1, 2, 3, 5, 7, 100]


def number(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def k_not(a):
    return None if a is None else not a


def k_and(a, b):
    return False if a is False or b is False else None if a is None or b is None else True


def k_or(a, b):
    return True if a is True or b is True else None if a is None or b is None else False


COMPARE = {"<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
           "==": lambda a, b: a == b, "!=": lambda a, b: a != b}


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def like(value, pattern):
    """LIKE without escapes; both are text."""
    reach = {0}
    for p in pattern:
        if p == "%":
            reach = set(range(min(reach), len(value) + 1)) if reach else set()
        elif p == "_":
            reach = {i + 1 for i in reach if i < len(value)}
        else:
            reach = {i + 1 for i in reach if i < len(value) and value[i] == p}
    return len(value) in reach


def json_at(row, path, field):
    """The value at a path of a JSON field, or of the row's dynamic keys when field is None; ... when there is none."""
    value = row.get(field) if field else {k: v for k, v in row.items() if k in ("dyn", "tag")}
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            value = value[step]
        else:
            return ...
    return value


def absent(value):
    if value is ... or value is None:
        return True
    if isinstance(value, dict):
        return all(absent(v) for v in value.values())
    return isinstance(value, list) and all(absent(v) for v in value)


class Expressions:
    def __init__(self, random):
        self.random = random

    def literal(self, kind):
        r = self.random
        if kind == "int":
            n = r.choice(NUMBERS)
            return str(n), n
        if kind == "float":
            n = r.choice([-1.5, 0.25, 0.5, 1.0, 2.5, 3.0])
            return repr(n), n
        if kind == "bool":
            n = r.choice([True, False])
            return str(n).lower(), n
        word = r.choice(WORDS)
        return quote(word), word

    def compare(self, text, value, kinds, accepts):
        """text OP literal; the value of another kind than the literal's is unknown."""
        kind = self.random.choice(kinds)
        operator = self.random.choice(["==", "!="] if kind == "bool" else list(COMPARE))
        shown, constant = self.literal(kind)

        def test(row):
            x = value(row)
            if x is None or x is ... or not accepts(x, kind):
                return None
            if kind == "str":
                return COMPARE[operator](x.encode(), constant.encode())
            return COMPARE[operator](x, constant)
        if self.random.random() < 0.2:
            mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}[operator]
            return "%s %s %s" % (shown, mirrored, text), test
        return "%s %s %s" % (text, operator, shown), test

    def member(self, text, value, kind, accepts, empty_is_false):
        r = self.random
        pairs = [self.literal(kind) for _ in range(r.randint(0, 4))]
        constants = [c for _, c in pairs]
        negated = r.random() < 0.4

        def test(row):
            x = value(row)
            if not constants and empty_is_false:
                found = False
            elif x is None or x is ... or (constants and not accepts(x, kind)):
                return None
            else:
                found = any(x == c and isinstance(x, bool) == isinstance(c, bool) for c in constants)
            return not found if negated else found
        return "%s %s [%s]" % (text, "not in" if negated else "in", ", ".join(s for s, _ in pairs)), test

    def scalar(self):
        r = self.random
        field = r.choice(["id", "n", "i8", "d", "b", "s"])
        kinds = {"id": ["int"], "n": ["int"], "i8": ["int"], "d": ["float", "int"], "b": ["bool"], "s": ["str"]}[field]

        def value(row):
            return row[field]

        def accepts(x, kind):
            return True
        what = r.random()
        if what < 0.15:
            negated = r.random() < 0.5
            word = "is not null" if negated else "is null"
            return "%s %s" % (field, word), lambda row: (row[field] is None) != negated
        if what < 0.35:
            return self.member(field, value, kinds[0], accepts, empty_is_false=False)
        if what < 0.5 and field in ("n", "i8", "d", "s"):
            (low_text, low), (high_text, high) = self.literal(kinds[0]), self.literal(kinds[0])
            if field == "s":
                low_key, high_key = low.encode(), high.encode()
            else:
                low_key, high_key = low, high
            if low_key < high_key:
                return "%s <= %s < %s" % (low_text, field, high_text), lambda row: None if row[field] is None else (
                    low_key <= (row[field].encode() if field == "s" else row[field]) < high_key)
        if what < 0.65 and field in ("n", "i8"):
            operator, by = r.choice(["+", "-", "*", "%", "/"]), r.choice([2, 3, 5])
            other = r.choice(NUMBERS)

            def arithmetic(row):
                x = row[field]
                if x is None:
                    return None
                quotient = abs(x) // by * (1 if x >= 0 else -1)  # towards zero, unlike Python
                y = {"+": x + by, "-": x - by, "*": x * by, "/": quotient, "%": x - quotient * by}[operator]
                return y == other
            return "%s %s %d == %d" % (field, operator, by, other), arithmetic
        if what < 0.75 and field == "s":
            pattern = "".join(r.choice(["a", "b", "%", "_", "c"]) for _ in range(r.randint(0, 4)))
            return "s like %s" % quote(pattern), lambda row: None if row["s"] is None else like(row["s"], pattern)
        if what < 0.8 and field in ("n", "d"):
            operator = r.choice(list(COMPARE))
            return "n %s i8" % operator, lambda row: None if row["n"] is None else COMPARE[operator](row["n"], row["i8"])
        return self.compare(field, value, kinds, accepts)

    def json(self):
        r = self.random
        field, path = r.choice([("j", ["a"]), ("j", ["b"]), ("j", ["b", "c"]), ("j", ["l", 0]), ("j", ["l"]), (None, ["dyn"]),
                                (None, ["tag"])])
        text = (field or "$meta" if field or r.random() < 0.3 else path[0])
        steps = path if field or text == "$meta" else path[1:]
        text += "".join("[%d]" % s if isinstance(s, int) else '["%s"]' % s for s in steps)

        def value(row):
            return json_at(row, path, field)

        def accepts(x, kind):
            return {"int": number(x), "float": number(x), "str": isinstance(x, str), "bool": isinstance(x, bool)}[kind]
        what = r.random()
        if what < 0.2:
            return "exists " + text, lambda row: not absent(value(row))
        if what < 0.3:
            return text + " is null", lambda row: absent(value(row))
        if what < 0.5:
            return self.member(text, value, r.choice(["int", "str"]), accepts, empty_is_false=True)
        if what < 0.6 and path == ["l"]:
            shown, constant = self.literal(r.choice(["int", "str"]))

            def contains(row):
                x = value(row)
                if not isinstance(x, list):
                    return None
                return any(y == constant and isinstance(y, bool) == isinstance(constant, bool) for y in x)
            return "json_contains(%s, %s)" % (text, shown), contains
        return self.compare(text, value, ["int", "float", "str", "bool"], accepts)

    def array(self):
        r = self.random
        what = r.random()
        if what < 0.3:
            shown, constant = self.literal("int")
            return "array_contains(arr, %s)" % shown, lambda row: None if row["arr"] is None else constant in row["arr"]
        if what < 0.5:
            pairs = [self.literal("int") for _ in range(r.randint(0, 3))]
            constants, every = [c for _, c in pairs], r.random() < 0.5
            name = "array_contains_all" if every else "array_contains_any"
            return "%s(arr, [%s])" % (name, ", ".join(s for s, _ in pairs)), lambda row: None if row["arr"] is None else (
                all if every else any)(c in row["arr"] for c in constants)
        if what < 0.7:
            operator, length = r.choice(list(COMPARE)), r.randint(0, 4)
            return "array_length(arr) %s %d" % (operator, length), lambda row: None if row["arr"] is None else (
                COMPARE[operator](len(row["arr"]), length))
        if what < 0.8:
            word = r.random() < 0.5
            return "arr is %snull" % ("not " if word else ""), lambda row: (row["arr"] is None) != word
        at = r.randint(0, 2)

        def item(row):
            return row["arr"][at] if row["arr"] is not None and at < len(row["arr"]) else None
        return self.compare("arr[%d]" % at, item, ["int"], lambda x, kind: True)

    def make(self, depth=2):
        r = self.random
        if depth == 0 or r.random() < 0.35:
            return r.choice([self.scalar, self.scalar, self.json, self.array])()
        text, test = self.make(depth - 1)
        if r.random() < 0.25:
            return "not (%s)" % text, lambda row: k_not(test(row))
        more, other = self.make(depth - 1)
        word, join = r.choice([("and", k_and), ("or", k_or), ("&&", k_and), ("||", k_or)])
        return "(%s) %s (%s)" % (text, word, more), lambda row: join(test(row), other(row))
